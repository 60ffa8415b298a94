"""Identities as Adobe's documents have them: a list per namespace.

The namespace is the identity type as it is mapped, but what is hashed never stands where the plain value would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from airflow_kinesis_audience.formats.values import render_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_audience.audience import IdentityRule
    from airflow_kinesis_audience.profile import Profiles

Shown = tuple[str, str | None]
"""A namespace and the identity type whose values it has; none is the user id."""


def find_namespaces(profiles: Profiles, namespaces: Mapping[str, str], user_id_as: str | None) -> list[Shown]:
    """List the namespaces of a document.

    :param namespaces: identity type to another namespace than its own.
    :param user_id_as: the namespace of the user id, if it is sent.
    :raises ValueError: if there is none, or two identities have one, or one is of no mapped type.
    """
    if unknown := sorted(set(namespaces) - set(profiles.new_identities)):
        raise ValueError(
            f"namespaces names {', '.join(unknown)}; the mapped identity types are "
            f"{', '.join(sorted(profiles.new_identities)) or 'none'}"
        )
    asked: list[Shown] = [
        (namespaces.get(kind) or _namespace_of(kind, profiles.rules.get(kind)), kind)
        for kind in profiles.new_identities
    ]
    asked += [(user_id_as, None)] if user_id_as is not None else []
    found: dict[str, str | None] = {}
    for namespace, kind in asked:
        if namespace in found:
            raise ValueError(
                f"two identities would be in the namespace {namespace!r}; give one another in namespaces or "
                "user_id_as"
            )
        found[namespace] = kind
    if not found:
        raise ValueError("a profile would have no identity; map one in identities, or give user_id_as")
    return sorted(found.items())


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
    digest = (rule.hash or rule.hashed) if rule else ""
    letters = "".join(filter(str.isalnum, kind.lower()))
    if digest == "sha256" and letters in ("email", "emailaddress"):
        return "email_lc_sha256"
    if digest == "sha256" and letters in ("phone", "phonenumber", "mobile", "mobilenumber"):
        return "phone_sha256_e.164"
    return f"{kind}_{digest}" if digest else kind
