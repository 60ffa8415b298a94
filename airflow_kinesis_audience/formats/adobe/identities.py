"""Identities as Adobe's documents have them: a list per namespace.

The namespace is the identity type as it is mapped, but what is hashed never stands where the plain value would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.core.model.identity_rules import EMAIL_TYPES, PHONE_TYPES
from airflow_kinesis_audience.formats.json_values import render_texts
from airflow_kinesis_audience.formats.option_names import refuse

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_kinesis_audience.core.model.identity_rules import IdentityRule
    from airflow_kinesis_audience.core.model.profiles import Profiles

Shown = tuple[str, str | None]
"""A namespace and the identity type whose values it has; none is the user id."""


def find_namespaces(
    kinds: Collection[str],
    rules: Mapping[str, IdentityRule],
    namespaces: Mapping[str, str],
    user_id_as: str | None,
) -> list[Shown]:
    """List the namespaces of a document.

    :param kinds: the identity types that are mapped, and ``rules`` what their values become.
    :param namespaces: identity type to another namespace than its own.
    :param user_id_as: the namespace of the user id, if it is sent.
    :raises ValueError: if there is none, or two identities have one, or one is of no mapped type.
    """
    if unknown := sorted(set(namespaces) - set(kinds)):
        refuse("namespaces", unknown, "the mapped identity types", sorted(kinds))
    asked: list[Shown] = [(namespaces.get(kind) or _namespace_of(kind, rules.get(kind)), kind) for kind in kinds]
    asked += [(user_id_as, None)] if user_id_as is not None else []
    found: dict[str, str | None] = {}
    for namespace, kind in asked:
        if namespace in found:
            raise ValueError(
                f"two identities would be in the namespace {namespace!r}; set another one in namespaces or "
                "user_id_as"
            )
        found[namespace] = kind
    if not found:
        raise ValueError("a profile would have no identity; map one in identities, or set user_id_as")
    return sorted(found.items())


def find_former_namespaces(
    shown: Sequence[Shown], withdrawn: Mapping[str, IdentityRule], namespaces: Mapping[str, str]
) -> list[Shown]:
    """List the namespaces that old identities were sent in; two may share one, of which only one has values."""
    then = {kind: namespaces.get(kind) or _namespace_of(kind, rule) for kind, rule in withdrawn.items()}
    found = [(then.get(kind, namespace) if kind is not None else namespace, kind) for namespace, kind in shown]
    return sorted(found, key=lambda s: s[0])


def render_identities(
    profiles: Profiles, shown: Sequence[Shown], side: Mapping[str, Sequence[Any]]
) -> list[bytes]:
    """Render, per profile, the members of its ``identityMap`` with a comma before each.

    :param side: the new identities, or the old ones.
    """
    columns = []
    for namespace, kind in shown:
        values = side[kind] if kind is not None else profiles.user_id
        before = b"," + orjson.dumps(namespace) + b':[{"id":'
        columns.append([_ids(before, f"identity {kind}", value) for value in values])
    return [b"".join(row) for row in zip(*columns, strict=True)]


def _ids(before: bytes, name: str, value: Any) -> bytes:
    if not value:
        return b""
    values = value if isinstance(value, list) else [value]
    return before + b'},{"id":'.join(render_texts(name, values)) + b"}]"


def _namespace_of(kind: str, rule: IdentityRule | None) -> str:
    digest = rule.digest if rule else ""
    letters = "".join(filter(str.isalnum, kind.lower()))
    if digest == "sha256" and letters in EMAIL_TYPES:
        return "email_lc_sha256"
    if digest == "sha256" and letters in PHONE_TYPES:
        return "phone_sha256_e.164"
    return f"{kind}_{digest}" if digest else kind
