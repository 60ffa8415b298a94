"""mParticle's identity types: their keys on the wire, and by which other names they are known.

A table and the one rule by which a mapped type is looked up in it: letters and digits count, case and separators
do not. Nothing is guessed: a type that is not in the table has no key until somebody gives it one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_kinesis_audience.core.model.identity_rules import EMAIL_TYPES


@dataclass(frozen=True, slots=True)
class IdentityType:
    """One identity type; its name is its key on the wire.

    :param label: as the vendor's page of this message calls it.
    :param documented: whether that page shows the key; others follow its naming elsewhere.
    :param aliases: other names, in letters and digits alone.
    """

    name: str
    label: str
    documented: bool = False
    aliases: tuple[str, ...] = ()


USER_TYPES = (
    IdentityType("CustomerId", "Customer ID", True, ("customer",)),
    IdentityType("Email", "Email Address", True, EMAIL_TYPES),
    IdentityType("Other", "Other", True, ("otherid",)),
    *(IdentityType(f"Other{n}", f"Other {n}", n == 3, (f"otherid{n}",)) for n in range(2, 11)),
    IdentityType("FacebookId", "Facebook ID", True, ("facebook",)),
    IdentityType("GoogleId", "Google ID", aliases=("google",)),
    IdentityType("MicrosoftId", "Microsoft ID", aliases=("microsoft",)),
    IdentityType("TwitterId", "Twitter ID", aliases=("twitter",)),
    IdentityType("YahooId", "Yahoo ID", aliases=("yahoo",)),
    IdentityType("MPID", "mParticle ID (MPID)", aliases=("mparticleid",)),
)
DEVICE_TYPES = (
    IdentityType(
        "GoogleAdvertisingIdentifier",
        "Google Advertising ID (GAID)",
        True,
        ("gaid", "googleadvertisingid", "androidadvertisingid"),
    ),
    IdentityType(
        "AdvertisingIdentifier",
        "Apple Advertising ID (IDFA)",
        aliases=("idfa", "appleadvertisingid", "iosadvertisingid"),
    ),
    IdentityType("VendorIdentifier", "Apple Vendor ID (IDFV)", aliases=("idfv", "applevendorid", "iosidfv")),
    IdentityType("AndroidId", "Android ID", aliases=("androiduuid",)),
    IdentityType("FireAdvertisingId", "Fire Advertising ID"),
    IdentityType("MicrosoftAdvertisingId", "Microsoft Advertising ID"),
    IdentityType("RokuAdvertisingIdentifier", "Roku Advertising ID"),
    IdentityType("RokuPublisherId", "Roku Publisher ID"),
)
IDENTITY_TYPES = (*USER_TYPES, *DEVICE_TYPES)
"""In the order in which a message has them."""


def fold(name: str) -> str:
    """Reduce a name to what counts of it."""
    return "".join(filter(str.isalnum, name.lower()))


_KNOWN: Mapping[str, str] = {
    known: t.name for t in IDENTITY_TYPES for known in (fold(t.name), fold(t.label), *t.aliases)
}


def find_type(name: str) -> str | None:
    """Find the type that a name means; none if the table has none."""
    return _KNOWN.get(fold(name))
