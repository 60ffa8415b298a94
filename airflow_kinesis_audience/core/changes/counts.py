"""What the rows of a change set, or of a first base, add up to: the counts of each audience.

Pure: rows in, counts out. Whether the rows were read out of a table or out of a statement that wrote none is all
the same here, so that a plan counts exactly as a run does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec import structs

from airflow_kinesis_audience.core.changes.guards import FEW_AUDIENCES, MOST_LEARNT
from airflow_kinesis_audience.core.changes.source_counts import (
    NOBODY_LEFT_OUT,
    InvalidCounts,
    LeftOut,
    parse_invalid_counts,
)
from airflow_kinesis_audience.core.model.audience import Action
from airflow_kinesis_audience.core.state.recorded import find_passed
from airflow_kinesis_audience.core.state.rows import AUDIENCE
from airflow_kinesis_audience.core.state.sync_details import COUNTED, Counts, TotalCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.source.layout import TableLayout
    from airflow_kinesis_audience.core.state.recorded import RecordedChangeSet

ONE_DAY = timedelta(days=1)
_NOTHING: Sequence[Any] = (None, 0, 0, None)


def count_audiences(
    layout: TableLayout,
    found: Iterable[Sequence[Any]],
    *,
    before: Iterable[Sequence[Any]] | None,
    expected: str | None,
) -> list[AudienceCounts]:
    """Add up the counts per audience.

    :param found: audience id, action, rows, distinct users; where the action is ``audience`` also name, rows of
        the source, invalid rows, wrong identities.
    :param before: id, name, rows, invalid rows of the audiences before; none on a first run.
    :param expected: the audience that must be counted even if no row names it.
    """
    audiences: dict[str | None, Sequence[Any]] = {}
    actions: dict[str | None, dict[str, tuple[int, int]]] = {}
    for audience, action, rows, users, *known in found:
        if action == AUDIENCE:
            audiences[audience] = known
        else:
            actions.setdefault(audience, {})[action] = (rows, users)
    previous = {audience: rows - bad for audience, _, rows, bad in before or () if audience is not None}
    if expected is not None:
        audiences.setdefault(expected, _NOTHING)
    counts = []
    for audience in sorted({*audiences, *previous}, key=lambda a: (a is not None, a or "")):
        called, rows, bad, wrong = audiences.get(audience, _NOTHING)
        invalid = parse_invalid_counts(bad, wrong)
        counted = AudienceCounts.of(
            audience,
            name=called,
            source=(rows, bad),
            invalid=invalid,
            actions=actions.get(audience, {}),
            previous=None if before is None else previous.get(audience, 0),
        )
        wrong = invalid.sentences(layout) if invalid.wrong else {}
        placeholders = invalid.placeholders(layout) if invalid.no_values else {}
        nulls = invalid.nulls_by_column(layout)
        counts.append(replace(counted, wrong=wrong, placeholders=placeholders, nulls=nulls))
    return counts


def count_exits_of_day(change_sets: Sequence[RecordedChangeSet], as_of: datetime) -> dict[str | None, int]:
    """Count who exited within the 24 hours up to an instant, in earlier runs, by what the ledger says of them.

    Of an audience that was let through, or approved, that run and those before it are left out: somebody has
    looked at them, and at no other audience. So are forgotten users, compensations, and what was inserted before a
    later run: who exited for good is in its change set, too.

    :param change_sets: ascending.
    :returns: exits per audience; of all together, under none, where a change set does not have those of each.
    """
    counted: list[tuple[RecordedChangeSet, frozenset[str]]] = []
    passed: frozenset[str] = frozenset()
    for recorded in reversed([c for c in change_sets if c.as_of < as_of and c.compensates is None]):
        if recorded.detail.forgets:
            continue
        named = find_passed(recorded.detail)
        if recorded.as_of <= as_of - ONE_DAY or named is None:
            break
        passed |= named
        is_undone = recorded.inserted and not all(c.inserted for c, _ in counted)
        if recorded.detail.approves is None and not is_undone:
            counted.append((recorded, passed))
    if any(c.detail.audiences is None for c, _ in counted):
        return {None: sum(c.counts.exited for c, _ in counted)}
    exits: Counter[str | None] = Counter()
    for recorded, left_out in counted:
        of = recorded.detail.audiences or {}
        exits.update({a: counts.exited for a, counts in of.items() if a not in left_out})
    return dict(exits)


@dataclass(frozen=True, kw_only=True, slots=True)
class AudienceCounts:
    """What one run found of one audience.

    :param audience_id: none for rows that name no audience.
    :param audience_name: none where no row of the source names it.
    :param source_rows: rows of the source.
    :param invalid_rows: of those, rows that are left out, or without a user id, or with an identity that is not
        what its rule promises.
    :param wrong_rows: of those with a user id, rows with such an identity, and ``wrong`` how many rows have what.
    :param nameless_rows: rows without a user id, or of no audience.
    :param left_out: rows that name nobody by the author's word; they are invalid in no other way.
    :param duplicate_rows: of those, rows beyond the first of their user.
    :param kept_members: members who stay as they were, since all their rows have a wrong identity.
    :param placeholders: rows that have in an identity a value that stands for none, by its label.
    :param previous_members: members before the run.
    :param nulls: rows that have nothing in a mapped column, by its role and label; empty where not counted.
    """

    audience_id: str | None
    source_rows: int
    invalid_rows: int
    duplicate_rows: int
    previous_members: int
    members: int
    entered: int
    exited: int
    updated: int
    audience_name: str | None = None
    wrong_rows: int = 0
    wrong: Mapping[str, int] = field(default_factory=dict)
    nameless_rows: int = 0
    kept_members: int = 0
    placeholders: Mapping[str, int] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)
    left_out: LeftOut = NOBODY_LEFT_OUT

    @classmethod
    def of(
        cls,
        audience_id: str | None,
        *,
        name: str | None = None,
        source: tuple[int, int],
        actions: Mapping[str, tuple[int, int]],
        previous: int | None,
        invalid: InvalidCounts | None = None,
    ) -> AudienceCounts:
        """Work out the counts, repeated users among them, from what is cheap to count.

        The users of the source are those that stayed and those that entered. More rows than users means that
        some repeat, without the source being grouped by user. Members who stayed because of a row with a wrong
        identity hide some that repeat, where they are not counted: see :attr:`are_to_be_numbered`.

        :param source: rows, and rows that are invalid.
        :param actions: action to rows and distinct users, in the change set or, on a first run, in the base.
        :param previous: members before the run, or none on a first run.
        :param invalid: what the invalid rows are; by default they have no user id.
        """
        rows, bad = source
        invalid = invalid or InvalidCounts(nameless_rows=bad)
        entered = actions.get(Action.ENTERED, (0, 0))[1]
        exited = actions.get(Action.EXITED, (0, 0))[1]
        members = actions.get("member", (0, 0))[1] if previous is None else previous - exited + entered
        return cls(
            audience_id=audience_id,
            audience_name=name,
            source_rows=rows,
            invalid_rows=bad,
            duplicate_rows=max(0, rows - bad - members),
            previous_members=previous or 0,
            members=members,
            entered=members if previous is None else entered,
            exited=exited,
            updated=actions.get(Action.UPDATED, (0, 0))[1],
            wrong_rows=invalid.wrong_rows,
            nameless_rows=invalid.nameless_rows if audience_id is not None else rows - invalid.left_out.rows,
            kept_members=invalid.kept_members,
            left_out=invalid.left_out,
        )

    @property
    def excluded(self) -> int:
        """Rows whose users are in no audience, by the author's word."""
        return self.left_out.excluded

    @property
    def outranked(self) -> int:
        """Rows whose users are in an audience that comes first."""
        return self.left_out.outranked

    @property
    def are_to_be_numbered(self) -> bool:
        """Whether it takes the numbers of each user's rows to know how many of them are members."""
        is_unclear = self.duplicate_rows > 0 or (self.wrong_rows > 0 and self.previous_members > 0)
        return is_unclear and self.audience_id is not None

    @property
    def dropped_rows(self) -> int:
        """Rows of the source that are left out where the policy is to drop what is invalid."""
        return self.source_rows - self.left_out.rows - (self.members - self.kept_members)

    def recorded(self, *, learns: bool) -> Counts:
        """Give what the ledger keeps of it."""
        counts = Counts(**{n: getattr(self, n) for n in COUNTED})
        if not learns:
            return counts
        rows = {"source_rows": self.source_rows, "dropped": self.dropped_rows, "nulls": self.nulls}
        return structs.replace(counts, **rows)


def describe_left_out(found: Iterable[AudienceCounts], source: Source) -> dict[str, Any]:
    """Sum up what the ledger keeps of rows that name nobody: in total, and by argument that excludes users."""
    total = sum((a.left_out for a in found), NOBODY_LEFT_OUT)
    by = {}
    if source.exclude_query is not None:
        by["exclude_sql"] = total.listed
    if source.consent_column is not None:
        by["consent_column"] = total.unconsented
    return {"excluded": total.excluded, "excluded_by": by, "outranked": total.outranked}


def recorded_counts(found: Sequence[AudienceCounts], *, learns: bool = False) -> dict[str, Any]:
    """Sum up what the ledger keeps of the counts: in total, and of each audience where there are few.

    :param learns: keep what guards learn from, too, and of more audiences.
    """
    # Rows of no audience have no member.
    named = [a for a in found if a.audience_id is not None]
    audiences = {a.audience_id: {n: getattr(a, n) for n in COUNTED} for a in named}
    total = {n: sum(counts[n] for counts in audiences.values()) for n in COUNTED}
    few = len(audiences) <= (MOST_LEARNT if learns else FEW_AUDIENCES)
    each = {str(a.audience_id): a.recorded(learns=learns) for a in named} if few else None
    return {
        "counts": TotalCounts(**total, changes=total["entered"] + total["exited"] + total["updated"]),
        "dropped_rows": sum(a.dropped_rows for a in found),
        "placeholders": dict(sum((Counter(a.placeholders) for a in found), Counter())),
        "audiences": each,
    }


def total_counts(found: Sequence[AudienceCounts]) -> Counts:
    """Sum up what guards learn of all audiences together."""
    each = [a.recorded(learns=True) for a in found]
    return Counts(**{n: sum(getattr(c, n) for c in each) for n in (*COUNTED, "dropped")})
