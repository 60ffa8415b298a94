"""What stops a change set because of the rows of the source that name nobody, or nobody any more.

Pure: counts in, breaches out, as in :mod:`.guards`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.changes.guards import EXCLUDING, FEW_EXITS, Breach

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_kinesis_audience.core.changes.counts import AudienceCounts
    from airflow_kinesis_audience.core.model.audience import Source
    from airflow_kinesis_audience.core.state.sync_details import ChangeSetDetail

_STOPS = "(on_invalid_rows is fail; drop leaves them out)"


def find_unsure_exits(audiences: Sequence[AudienceCounts]) -> list[Breach]:
    """Find exits of members who may still be there, in rows that are left out as they name no user or no audience.

    How many such rows there were before proves nothing: they may be other people's now. One breach per audience;
    one for the sync as a whole where rows name no audience. A user of a row with a wrong identity is known to be
    there, and does not exit.
    """
    found = []
    for a in audiences:
        exited, what = a.exited, f"{a.previous_members:,} members of audience {a.audience_id!r}"
        if a.audience_id is None:
            exited = sum(b.exited for b in audiences)
            what = f"{sum(b.previous_members for b in audiences):,} members of all audiences"
        if a.nameless_rows and exited:
            missing = "audience id" if a.audience_id is None else "user id"
            sentence = (
                f"{a.nameless_rows:,} dropped rows have no {missing}, and could belong to {exited:,} of {what} "
                "that would exit (on_invalid_rows is drop; if such rows are never members, exclude them in the "
                "query)"
            )
            found.append(Breach(a.audience_id, sentence))
    return found


def find_lost_exclusion(now: Mapping[str, Any], before: ChangeSetDetail) -> list[Breach]:
    """Find that most of those who were excluded are so no longer, as if a list of users had not been loaded.

    Each argument is looked at for itself: many without consent would hide a list that is lost. Of a few rows it is
    believed.

    :param now: ``excluded`` and ``excluded_by`` of this run.
    :param before: what the ledger has of the run before.
    """
    if not now["excluded_by"]:
        return []  # an author who removes the arguments means it
    compared = {
        n: (before.excluded_by[n], rows) for n, rows in now["excluded_by"].items() if n in before.excluded_by
    }
    if not before.excluded_by:  # of a time when they were not counted apart
        compared = {", ".join(EXCLUDING): (before.excluded, now["excluded"])}
    return [
        Breach(None, f"{was:,} rows were excluded in the run before, and now {is_:,} ({named})")
        for named, (was, is_) in compared.items()
        if was - is_ > FEW_EXITS and is_ < was / 2
    ]


def find_unknown_exclusive(audiences: Iterable[AudienceCounts], source: Source) -> list[str]:
    """Find what ``exclusive_by`` lists and is no audience: no row names it, and it has no member, nor has a group.

    It stops nothing, since an audience may be empty; a misspelt id would leave its users in two audiences.
    """
    known = {a.audience_id for a in audiences if a.source_rows or a.previous_members}
    return [name for name in source.exclusive_by if known.isdisjoint(source.with_groups(name))]


def describe_unknown_exclusive(names: Sequence[str]) -> str:
    """Describe what is listed and is no audience."""
    return (
        f"exclusive_by lists ids of which the source has no row, and which have no member: "
        f"{', '.join(map(repr, names))}. Check that they are spelt as in the source"
    )


def find_invalid_rows(audiences: Iterable[AudienceCounts]) -> list[Breach]:
    """Find rows of the source that repeat a user or name none: one breach per kind and audience."""
    found = []
    for a in audiences:
        if a.audience_id is None:
            if a.nameless_rows:
                found.append(Breach(None, f"{a.nameless_rows:,} rows have no audience id {_STOPS}"))
            continue
        nameless, repeated = {"have no user id": a.nameless_rows}, {"repeat a user id": a.duplicate_rows}
        for what, rows in {**nameless, **repeated, **a.wrong}.items():
            if rows:
                sentence = f"{rows:,} of {a.source_rows:,} rows {what} {_STOPS}"
                found.append(Breach(a.audience_id, f"audience {a.audience_id!r}: {sentence}"))
    return found
