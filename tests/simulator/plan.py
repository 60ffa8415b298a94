"""What a history is about, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

ACTS = {
    "resync": 0.2,
    "twice": 0.25,
    "mapping": 0.2,
    "full": 0.2,
    "revoke": 0.2,
    "clock": 0.25,
    "lost table": 0.25,
    "clear": 0.25,
}
"""What may happen beside the days, and how often it does."""
LATER_ACTS = {"release": 0.8, "insert": 0.3}
"""Likewise, drawn by themselves, so that a seed's other acts stay what they were."""
ENDS = {"delete": 0.1, "restore": 0.15, "detach": 0.12}
"""Of these at most one happens."""
FORGETS = 0.12
"""How often somebody is forgotten; neither with a backup, which would not know of it, nor with the end of all."""
BESIDE = 0.1
"""How often there is another sync in the same ledger."""
NOT_BESIDE = ("full", "revoke", "restore", "forget")
"""Acts upon the whole state: of them one sync's are enough, and what a backup or tombstones do is judged alone."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a history is about.

    :param alone: with ``hold``, audiences that a guard stops are held alone.
    :param profiles: the second destination gets profiles; with ``consent``, of those alone who agree.
    :param invalid: the source has rows without a user, and users with two rows.
    :param named: a publishing task says who it is, so that others wait while it is at work.
    :param beside: what another sync in the same ledger is about, if there is one.
    """

    days: int
    audiences: int
    users: int
    apart_seconds: float
    parts: int
    max_exits: int | None
    hold: bool
    keep_days: int
    compaction_share: float
    profiles: bool
    consent: bool
    invalid: bool
    named: bool
    acts: tuple[str, ...]
    alone: bool = False
    beside: Plan | None = None

    @classmethod
    def of(cls, seed: int) -> Plan:
        """Draw the plan of a seed."""
        plan = cls._draw(f"plan {seed}")
        if {"restore", "forget"} & {*plan.acts} or random.Random(f"beside {seed}").random() >= BESIDE:
            return plan
        other = cls._draw(f"plan beside {seed}")
        acts = tuple(act for act in other.acts if act not in NOT_BESIDE)
        return replace(plan, beside=replace(other, acts=acts))

    @classmethod
    def _draw(cls, seed: str) -> Plan:
        chance, later = random.Random(seed), random.Random(f"later {seed}")
        acts = [act for act, likely in ACTS.items() if chance.random() < likely]
        end = chance.random()
        for act, likely in ENDS.items():
            if 0 <= end < likely:
                acts.append(act)
            end -= likely
        acts += [act for act, likely in LATER_ACTS.items() if later.random() < likely]
        if not {"restore", "delete"} & {*acts} and random.Random(f"forget {seed}").random() < FORGETS:
            acts.append("forget")
        profiles = chance.random() < 0.35
        consent = profiles and "mapping" not in acts and chance.random() < 0.6
        return cls(
            days=chance.choice((1, 2, 2, 3)),
            audiences=chance.choice((1, 1, 1, 2)),
            users=chance.choice((2, 3, 3)),
            apart_seconds=chance.choice((0.0, 1.0, 60.0, 5_000.0)),
            parts=1 if "delete" in acts or profiles else chance.choice((1, 2)),
            max_exits=0 if consent else chance.choice((None, None, 0, 1)),
            hold=chance.random() < 0.5,
            keep_days=chance.choice((1, 90)),
            compaction_share=chance.choice((0.01, 0.25, 10.0)),
            profiles=profiles,
            consent=consent,
            invalid=chance.random() < 0.2,
            named=chance.random() < 0.5,
            acts=tuple(acts),
            alone=later.random() < 0.8,
        )
