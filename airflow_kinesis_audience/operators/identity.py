"""One identity of a member as the author of a DAG writes it: its type, and what becomes of its values.

It is a short form of the arguments ``normalize_identities``, ``hash_identities`` and ``hashed_identities``, and
never means anything else: both forms lead to the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.model.identity_rules import identity_rules

if TYPE_CHECKING:
    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule


@dataclass(frozen=True, slots=True)
class Identity:
    """Map a source column to an identity type, together with the rules of its values.

    The rules are checked when the task runs. Jinja does not render them.

    :param type: the identity type, such as ``Email``.
    :param normalize: ``trim``, ``email``, ``gmail`` or ``phone``, as in ``normalize_identities``.
    :param hash: ``sha256`` or ``md5``, as in ``hash_identities``.
    :param hashed: ``sha256`` or ``md5`` if the source has digests, as in ``hashed_identities``.
    :param placeholders: texts that are not an identity, instead of the usual ones such as ``N/A`` and ``null``.
    """

    type: str
    _: KW_ONLY
    normalize: str | None = None
    hash: str | None = None
    hashed: str | None = None
    placeholders: Sequence[str] | None = None


def map_identities(
    identities: Mapping[str, str | Identity] | None,
    *,
    normalize: Mapping[str, str] | None,
    hash_with: Mapping[str, str] | None,
    hashed_with: Mapping[str, str] | None,
) -> tuple[dict[str, str], dict[str, IdentityRule]]:
    """Return identity types and rules by source column.

    :param identities: source column to identity type, or to an :class:`Identity`.
    :param normalize: the argument ``normalize_identities``.
    :param hash_with: the argument ``hash_identities``.
    :param hashed_with: the argument ``hashed_identities``.
    :raises ValueError: if a rule is given in both forms, or the rules contradict each other.
    """
    mapped = dict(identities or {})
    values = {name: identity for name, identity in mapped.items() if isinstance(identity, Identity)}
    rules: dict[str, dict[str, str]] = {}
    for rule, argument, given in (
        ("normalize", "normalize_identities", normalize or {}),
        ("hash", "hash_identities", hash_with or {}),
        ("hashed", "hashed_identities", hashed_with or {}),
    ):
        own = {name: found for name, i in values.items() if (found := getattr(i, rule)) is not None}
        if both := sorted(set(own) & set(given)):
            raise ValueError(
                f"{argument} names {', '.join(map(repr, both))}, whose Identity also has {rule}=; set one of them"
            )
        rules[rule] = {**own, **given}
    placeholders = {name: i.placeholders for name, i in values.items() if i.placeholders is not None}
    for name, texts in placeholders.items():
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"placeholders of the Identity of {name!r} are not a list of texts")
    types = {name: i.type if isinstance(i, Identity) else i for name, i in mapped.items()}
    return types, identity_rules(
        types,
        normalize=rules["normalize"],
        hash_with=rules["hash"],
        hashed_with=rules["hashed"],
        placeholders=placeholders,
    )
