"""How a format refuses an option that names what is not there: the same sentence for every option.

An option that matches nothing would be taken for one that works: what was to be left out would be sent. The names
in a sentence are those that authors gave, never values of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MOST_NAMES = 60
"""How many names a sentence has at most."""


def refuse(option: str, unknown: Iterable[str], what: str, expected: Collection[str]) -> NoReturn:
    """Refuse names that an option has.

    :param unknown: the names.
    :param what: what the right ones are, such as ``the mapped properties``, and ``expected`` those.
    :raises ValueError: always; a retry does not help.
    """
    raise ValueError(f"{option} names {', '.join(map(repr, unknown))}; {what} are {list_names(expected)}")


def list_names(names: Collection[str]) -> str:
    """List names in their order, or as many as a sentence can hold."""
    shown = list(names)[:MOST_NAMES]
    more = [f"and {len(names) - len(shown):,} more"] * (len(names) > len(shown))
    return ", ".join([*shown, *more]) or "none"


def check_mapped(option: str, names: Iterable[str], mapped: Collection[str]) -> None:
    """Check that all properties which an option names are mapped.

    :raises ValueError: if one is not.
    """
    if unknown := sorted(set(names) - set(mapped)):
        refuse(option, unknown, "the mapped properties", sorted(mapped))
