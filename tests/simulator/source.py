"""The author's table: who is in it, and what is true by it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulator.remembering import OTHER_SOURCE, SOURCE, RememberingDuckDb
from tests.warehouses import insert_rows

if TYPE_CHECKING:
    from tests.simulator.consumer import Key, Members
    from tests.simulator.plan import Plan

AUDIENCES, USERS, ANSWERS = {SOURCE: ("a", "b"), OTHER_SOURCE: ("x", "y")}, ("u0", "u1", "u2"), (None, "yes")


class People:
    """Users of audiences, and whether each agrees.

    :param table: of the source.
    :ivar extra: rows beyond the one that each user has: of a user once more, or of nobody.
    """

    def __init__(self, inner: Any, chance: Random, plan: Plan, table: str) -> None:
        self._inner, self._chance, self._plan, self._table = inner, chance, plan, table
        self._audiences = AUDIENCES[table][: plan.audiences]
        self._rows: dict[Key, str | None] = {}
        self._extra: list[tuple[str, str | None, str | None]] = []

    def begin(self) -> None:
        for audience in self._audiences:
            self._rows[audience, "always"] = "yes"
        self.edit()

    def edit(self) -> None:
        """Let users enter, leave and change, all at once."""
        chance, audiences = self._chance, self._audiences
        for _ in range(chance.choice((1, 2, 3))):
            key = (chance.choice(audiences), chance.choice(USERS[: self._plan.users]))
            if chance.random() < (0.1 if self._plan.consent else 0.4):
                self._rows.pop(key, None)
            else:
                self._rows[key] = chance.choice(ANSWERS)
        for audience in audiences:
            # An audience without a row is a guard's own story; there is always one.
            self._rows.setdefault((audience, "always"), "yes")
        self._extra = []
        if self._plan.invalid and chance.random() < 0.7:
            user = chance.choice((None, *USERS[: self._plan.users]))
            self._extra += [(chance.choice(audiences), user, chance.choice(ANSWERS)) for _ in range(2)]
        rows = [(a, f"Audience {a}", u, answer) for (a, u), answer in sorted(self._rows.items())]
        rows += [(a, f"Audience {a}", u, answer) for a, u, answer in self._extra]
        if isinstance(self._inner, RememberingDuckDb):
            self._inner.fill_source(self._table, rows)
        else:
            self._inner.execute(f"DELETE FROM {self._table}")
            insert_rows(self._inner, self._table, rows)

    def members(self, label: str) -> Members:
        """Say who belongs: of several rows of one user the first counts, by its values, none last."""
        found = dict(self._rows)
        for audience, user, answer in self._extra:
            if user is not None:
                found[audience, user] = found.get((audience, user)) or answer
        return {key: {label: answer} if answer is not None else {} for key, answer in found.items()}

    def nameless(self) -> frozenset[str]:
        """List the audiences that have rows of nobody."""
        return frozenset(audience for audience, user, _ in self._extra if user is None)
