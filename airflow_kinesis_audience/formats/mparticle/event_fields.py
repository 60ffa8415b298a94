"""Where things stand in mParticle's event batches: types of events and identities, places, 64-bit integers."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_audience.formats.mparticle.identity_types import find_type
from airflow_kinesis_audience.formats.option_names import refuse

if TYPE_CHECKING:
    from collections.abc import Collection

EVENT_TYPES = (
    *(
        "custom_event",
        "commerce_event",
        "session_start",
        "session_end",
        "screen_view",
        "uninstall",
        "crash_report",
    ),
    *("opt_out", "push_registration", "application_state_transition", "push_message", "network_performance"),
    *("breadcrumb", "first_run", "profile", "push_reaction", "user_attribute_change", "user_identity_change"),
)
NEEDED = {
    "custom_event": ("event_name",),
    "screen_view": ("screen_name",),
    "push_registration": ("register", "registration_token"),
    "application_state_transition": ("application_transition_type",),
    "push_message": ("push_message_type",),
    "breadcrumb": ("label",),
}
"""What ``data`` of a type must have; all else is optional."""

CHOICES = {
    "custom_event_type": (
        *("navigation", "location", "search", "transaction", "user_content", "user_preference", "social", "other"),
        *("media", "attribution"),
    ),
    "product_action.action": (
        *("add_to_cart", "remove_from_cart", "checkout", "checkout_option", "click", "view_detail", "purchase"),
        *("refund", "add_to_wishlist", "remove_from_wish_list"),
    ),
}
"""What may stand at a place of ``data``, where not everything may."""

_OBJECTS = (
    *("device_info", "application_info", "user_attributes", "partner_identities", "integration_attributes"),
    *("context", "consent_state", "source_info", "deleted_user_attributes"),
)
_VALUES = ("mpid", "ip")
_LISTS = ("products", "promotions", "product_impressions", "breadcrumbs", "deleted_user_attributes")
_FLAT = ("user_attributes", "custom_attributes", "custom_flags", "partner_identities")
"""What is inside of these has a name, dots included, and nests no further."""
_INT64 = re.compile(
    "(.*_)?(time_ms|unixtime_ms|duration_ms|start_ms)|event_id|event_num|session_id|mpid|batch_id|"
    "ios_image_base_address|ios_image_size|total_system_memory_usage_bytes|(external_)?disk_space_free_bytes"
)
_WHOLE = re.compile(rb"-?[0-9]+")

_USER = {
    "CustomerId": "customer_id",
    "Email": "email",
    "Other": "other",
    "FacebookId": "facebook",
    "GoogleId": "google",
    "MicrosoftId": "microsoft",
    "TwitterId": "twitter",
    "YahooId": "yahoo",
    **{f"Other{n}": f"other_id_{n}" for n in range(2, 11)},
}
_PLACES = {
    "MPID": "mpid",
    "AndroidId": "device_info.android_uuid",
    "AdvertisingIdentifier": "device_info.ios_advertising_id",
    "VendorIdentifier": "device_info.ios_idfv",
    "GoogleAdvertisingIdentifier": "device_info.android_advertising_id",
    "RokuAdvertisingIdentifier": "device_info.roku_advertising_id",
    "RokuPublisherId": "device_info.roku_publisher_id",
    "MicrosoftAdvertisingId": "device_info.microsoft_advertising_id",
    "FireAdvertisingId": "device_info.fire_advertising_id",
}
METADATA = ("device_info.device", "ip")
USER_IDENTITIES = "user_identities"
"""Where the identities of a user stand; a source has no field there."""

_MORE_USER = ("alias", "facebook_custom_audience_id", "mobile_number", "phone_number_2", "phone_number_3")
_MORE_PLACES = {"microsoft_publisher_id": "device_info.microsoft_publisher_id"}


class EventIdentity(NamedTuple):
    """Where an identity stands: in ``user_identities`` with a type, or at a place of its own; one of the two."""

    user: str | None
    place: str | None


@cache
def event_identity(name: str, named_by: str = "") -> EventIdentity:
    """Find out where an identity type stands.

    :param named_by: the option that names it, before a colon.
    :raises ValueError: if the format has no such type.
    """
    if name in _MORE_USER or name in _USER.values():
        return EventIdentity(name, None)
    kind = find_type(name) or name
    if kind in _USER:
        return EventIdentity(_USER[kind], None)
    for place in (_PLACES.get(kind), _MORE_PLACES.get(name)):
        if place is not None:
            return EventIdentity(None, place)
    known = ", ".join((*_USER.values(), *_MORE_USER, *_PLACES, *_MORE_PLACES))
    raise ValueError(f"{named_by}identity type {name!r} is unknown to mParticle; expected one of {known}")


def is_hidden(place: str, hidden: Collection[str]) -> bool:
    """Return whether a place is one of those that are left out, or inside of one."""
    return any(f"{place}.".startswith(f"{outer}.") for outer in hidden)


def check_hidden(hidden: Collection[str], places: Collection[str]) -> None:
    """Check that each place that is to be left out is one of a batch, or has something mapped at it.

    :param places: those at which something is mapped.
    :raises ValueError: if not.
    """
    known = {*_OBJECTS, *_VALUES, *METADATA, *_PLACES.values(), *_MORE_PLACES.values(), USER_IDENTITIES}
    if unknown := [h for h in hidden if h not in known and not any(is_hidden(p, [h]) for p in places)]:
        expected = [*sorted({*places} - known), USER_IDENTITIES, *_VALUES, *_OBJECTS]
        refuse("exclude", unknown, "the places that are mapped, and those of every batch,", expected)


def set_place(document: dict[str, Any], place: str, value: Any, *, raw: bytes = b"") -> None:
    """Set a value at a dotted place; what has 64 bits becomes a string.

    :param raw: the value's JSON, where ``value`` is that.
    :raises ValueError: if the place is none, or is a value and an object at once.
    """
    *outer, leaf = parts = _split(place)
    if not all(parts):
        raise ValueError(f"{place!r} has an empty part; expected a dotted place such as device_info.platform")
    inside = document
    for part in outer:
        deeper = inside.setdefault(part, {})
        if not isinstance(deeper, dict):
            raise ValueError(f"{place!r} would be inside a value; move one of the two to another place")
        inside = deeper
    if isinstance(inside.get(leaf), dict):
        raise ValueError(f"{place!r} would be both a value and an object; move one of the two to another place")
    if _INT64.fullmatch(leaf) and (_WHOLE.fullmatch(raw) if raw else type(value) is int):
        value = raw.decode() if raw else str(value)
    inside[leaf] = value


def check_place(place: str, named_by: str = "") -> None:
    """Check that a place is one of a batch or of an event.

    :param named_by: the option that names it, before a colon.
    :raises ValueError: if not, naming those that there are.
    """
    top, _, rest = place.partition(".")
    if place in ("event_type", *_VALUES) or (top in ("data", *_OBJECTS) and rest):
        return
    raise ValueError(
        f"{named_by}{place!r} is not a place in a batch; expected event_type, {', '.join(_VALUES)}, data.…, or a "
        f"place inside one of {', '.join(_OBJECTS)}"
    )


@cache
def _split(place: str) -> list[str]:
    parts = place.split(".")
    flat = next((n for n, part in enumerate(parts) if part in _FLAT and n < 2), None)
    if flat is None or len(parts) <= flat + 2:
        return parts
    return [*parts[: flat + 1], ".".join(parts[flat + 1 :])]


def with_lists(document: dict[str, Any]) -> dict[str, Any]:
    """Make lists of what the format has as lists, and is kept as objects whose keys are 0, 1, …

    :raises ValueError: if a key of such an object is no number.
    """
    return {name: _listed(name, value) for name, value in document.items()}


def _listed(name: str, value: Any) -> Any:
    if not isinstance(value, dict) or name in _FLAT:
        return value
    inner = with_lists(value)
    if name not in _LISTS:
        return inner
    if not all(key.isdigit() for key in inner):
        raise ValueError(f"{name} is a list; expected an index after it, such as {name}.0")
    return [inner[key] for key in sorted(inner, key=int)]
