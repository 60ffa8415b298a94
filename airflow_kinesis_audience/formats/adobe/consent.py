"""Who may be sent: a profile that has consented, by a property of it, and that can be named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.formats.option_names import check_mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_audience.core.model.profiles import Profiles


def find_consents(profiles: Profiles, consent: str | None) -> list[tuple[bool, bool]]:
    """Find, per profile, whether it consents and whether it did.

    :param consent: the property; without one everybody does.
    """
    if consent is None:
        return [(True, True)] * len(profiles)
    check_mapped("consent", [consent], profiles.new_properties)
    sides = (profiles.new_properties[consent], profiles.old_properties[consent])
    now, before = ([_is_yes(value) for value in side] for side in sides)
    known = (was and there for was, there in zip(before, profiles.known, strict=True))
    return list(zip(now, known, strict=True))


def find_shown(
    profiles: Profiles, consent: str | None, new: Sequence[bytes], old: Sequence[bytes]
) -> Iterator[tuple[bool, bool]]:
    """Find, per profile, whether it may be sent and whether it was.

    :param new: its rendered identities, and ``old`` those before.
    """
    consents = find_consents(profiles, consent)
    for (agrees, agreed), known, now, before in zip(consents, profiles.known, new, old, strict=True):
        yield agrees and bool(now), agreed and known and bool(before)


def _is_yes(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("y", "yes", "true"))
