"""What a history is about, drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

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
ENDS = {"delete": 0.1, "restore": 0.15, "detach": 0.12}
"""Of these at most one happens."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a history is about.

    :param profiles: the second destination gets profiles; with ``consent``, of those alone who agree.
    :param invalid: the source has rows without a user, and users with two rows.
    :param named: a publishing task says who it is, so that others wait while it is at work.
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

    @classmethod
    def of(cls, seed: int) -> Plan:
        """Draw the plan of a seed."""
        chance = random.Random(f"plan {seed}")
        acts = [act for act, likely in ACTS.items() if chance.random() < likely]
        end = chance.random()
        for act, likely in ENDS.items():
            if 0 <= end < likely:
                acts.append(act)
            end -= likely
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
        )
