"""mParticle's identity types: their keys on the wire, and by which other names they are known.

A table and the one rule by which a mapped type is looked up in it: letters and digits count, case and separators
do not. Nothing is guessed: a type that is not in the table has no key until somebody gives it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdentityType:
    """One identity type; its name is its key on the wire.

    :param documented: whether the vendor's page of this message shows the key; others follow its naming elsewhere.
    :param aliases: other names, in letters and digits alone.
    """

    name: str
    documented: bool = False
    aliases: tuple[str, ...] = ()


USER_TYPES = (
    IdentityType("CustomerId", True, ("customer",)),
    IdentityType("Email", True, ("emailaddress",)),
    IdentityType("Other", True, ("otherid",)),
    *(IdentityType(f"Other{n}", n == 3, (f"otherid{n}",)) for n in range(2, 11)),
    IdentityType("FacebookId", True, ("facebook",)),
    IdentityType("GoogleId", aliases=("google",)),
    IdentityType("MicrosoftId", aliases=("microsoft",)),
    IdentityType("TwitterId", aliases=("twitter",)),
    IdentityType("YahooId", aliases=("yahoo",)),
    IdentityType("MPID", aliases=("mparticleid",)),
)
DEVICE_TYPES = (
    IdentityType("GoogleAdvertisingIdentifier", True, ("gaid", "googleadvertisingid", "androidadvertisingid")),
    IdentityType("AdvertisingIdentifier", aliases=("idfa", "appleadvertisingid", "iosadvertisingid")),
    IdentityType("VendorIdentifier", aliases=("idfv", "applevendorid", "iosidfv")),
    IdentityType("AndroidId", aliases=("androiduuid",)),
    IdentityType("FireAdvertisingId"),
    IdentityType("MicrosoftAdvertisingId"),
    IdentityType("RokuAdvertisingIdentifier", aliases=("rokuadvertisingid",)),
    IdentityType("RokuPublisherId"),
)
IDENTITY_TYPES = (*USER_TYPES, *DEVICE_TYPES)
"""In the order in which a message has them."""


def fold(name: str) -> str:
    """Reduce a name to what counts of it."""
    return "".join(filter(str.isalnum, name.lower()))


_KNOWN: Mapping[str, str] = {known: t.name for t in IDENTITY_TYPES for known in (fold(t.name), *t.aliases)}


def find_type(name: str) -> str | None:
    """Find the type that a name means; none if the table has none."""
    return _KNOWN.get(fold(name))
