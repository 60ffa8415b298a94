"""What becomes of an identity's values before they are compared or sent: normalized, hashed, or as they are.

Only the rules are here; the warehouse applies them. The invariant: what is hashed is normalized before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DIGEST_CHARACTERS = {"md5": 32, "sha256": 64}
"""What identities can be hashed with, and the hexadecimal characters of it."""

NO_VALUES = ("#n/a", "(null)", "-", "--", "<na>", "n/a", "nan", "none", "null", "undefined")
"""What tables hold in the place of an identity that is not known, in lower case."""

NORMALIZATIONS = ("none", "trim", "email", "gmail", "phone")

EMAIL_TYPES = ("email", "emailaddress")
PHONE_TYPES = ("phone", "phonenumber", "mobile", "mobilenumber")
"""Names of identity types, in lower case and without separators, that mean an e-mail address or a phone number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityRule:
    """What an identity's values become, inside the warehouse, before anything is compared.

    :param normalize: ``none``; ``trim`` white space at both ends; ``email`` trims and lower-cases; ``gmail`` does
        so, too, and leaves out of an address at gmail.com or googlemail.com the dots of its name, and a plus with
        what follows; ``phone`` makes E.164, the plus and the digits alone, of an international number.
    :param hash: ``md5`` or ``sha256`` of the normalized value in UTF-8, in lower-case hexadecimal; a value that
        looks hashed already is invalid.
    :param hashed: the source has digests of this kind; a value that is none is invalid.
    :param placeholders: texts that stand for no identity, in any case of ASCII letters; by default
        :data:`NO_VALUES`.
    """

    normalize: str = "none"
    hash: str = ""
    hashed: str = ""
    placeholders: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize of an identity is {self.normalize!r}; expected {_either(NORMALIZATIONS)}")
        for digest in filter(None, (self.hash, self.hashed)):
            if digest not in DIGEST_CHARACTERS:
                raise ValueError(f"hash of an identity is {digest!r}; expected {_either(DIGEST_CHARACTERS)}")
        if self.hashed and (self.hash or self.normalize not in ("none", "trim")):
            raise ValueError(
                "an identity that the source has hashed cannot be hashed or normalized again; name its column in "
                "hashed_identities only, or remove it there"
            )

        if self.placeholders is not None and self.normalize == "none" and not (self.hash or self.hashed):
            raise ValueError(
                "placeholders are set for an identity that is sent as it is; set normalize, hash or hashed for "
                "it, or remove placeholders"
            )

    @property
    def digest(self) -> str:
        """Which digests the values are, whoever makes them; empty where they are none."""
        return self.hash or self.hashed

    @property
    def no_values(self) -> tuple[str, ...]:
        """The texts that stand for no identity, in lower case; of digests also the digests of these."""
        texts = NO_VALUES if self.placeholders is None else tuple(sorted({p.lower() for p in self.placeholders}))
        if not self.hashed:
            return texts
        return (
            *texts,
            *(hashlib.new(self.hashed, t.encode(), usedforsecurity=False).hexdigest() for t in ("", *texts)),
        )

    @property
    def is_email(self) -> bool:
        """Whether the values are e-mail addresses."""
        return self.normalize in ("email", "gmail")

    @property
    def has_no_values(self) -> bool:
        """Whether some texts stand for no identity."""
        return self.normalize != "none" or bool(self.hashed)

    @property
    def can_be_violated(self) -> bool:
        """Whether there can be values that are not what the rule promises."""
        return bool(self.hash or self.hashed or self.normalize == "phone")

    @property
    def violation(self) -> str:
        """How an error describes values that are not what the rule promises."""
        if self.hashed:
            return f"are not {self.hashed} digests in hexadecimal, as hashed_identities declares"
        found = ["are not international phone numbers such as +47 22 12 34 56"] * (self.normalize == "phone")
        return ", or ".join(found + ["are probably hashed already"] * bool(self.hash))

    def __str__(self) -> str:
        hashed = [f"hashed with {self.hash}"] * bool(self.hash) + [f"given as {self.hashed}"] * bool(self.hashed)
        given = [] if self.placeholders is None else [f"none if it is {' or '.join(self.placeholders) or 'empty'}"]
        return ", ".join([f"normalized as {self.normalize}"] * (self.normalize != "none") + hashed + given)


AS_IT_IS = IdentityRule()


def identity_rules(
    identities: Mapping[str, str],
    *,
    normalize: Mapping[str, str],
    hash_with: Mapping[str, str],
    hashed_with: Mapping[str, str],
    placeholders: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, IdentityRule]:
    """Put together the rules of identities: source column to rule.

    What is hashed is normalized in any case, because two spellings of one address would be two people: by its
    identity type as an e-mail address or a phone number, else trimmed.

    :param identities: source column to identity type.
    :param placeholders: source column to the texts that stand for no identity, where they are not the usual ones.
    :raises ValueError: if a column is no identity, or rules contradict each other.
    """
    for name, named in (
        ("normalize_identities", normalize),
        ("hash_identities", hash_with),
        ("hashed_identities", hashed_with),
    ):
        if unknown := sorted(set(named) - set(identities)):
            raise ValueError(
                f"{name} names {', '.join(map(repr, unknown))}; expected source columns of identities: "
                f"{', '.join(map(repr, identities)) or 'none'}"
            )
    return {
        name: IdentityRule(
            normalize=normalize.get(name) or (_normalization_of(label) if name in hash_with else "none"),
            hash=hash_with.get(name, ""),
            hashed=hashed_with.get(name, ""),
            placeholders=tuple(placeholders[name]) if placeholders and name in placeholders else None,
        )
        for name, label in identities.items()
        if name in {*normalize, *hash_with, *hashed_with, *(placeholders or {})}
    }


def _normalization_of(identity_type: str) -> str:
    letters = "".join(filter(str.isalpha, identity_type.lower()))
    if letters in EMAIL_TYPES:
        return "email"
    return "phone" if letters in PHONE_TYPES else "trim"


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"
