"""What the demo prints. It knows words, columns and colours, and computes nothing that matters.

Colours and passing lines are for terminals alone; everything says the same without them. The rest of the process
is kept quiet: what Airflow and others print goes to a file while the screen is open.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pathlib import Path

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_BAR = 16
"""Characters on each side of a day's bar."""
_AUDIENCES = {"members": ">8", "entered": ">8", "exited": ">7", "updated": ">8"}
_EVENTS = {"events": ">8", "messages": ">9"}
_ALWAYS = {"records": ">8"}
_SHOWN_USERS = 2


class Screen:
    """Where the demo prints.

    :param out: a text stream.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._users_per_mark = 0
        self._columns: Mapping[str, str] = {}

    def line(self, text: str = "") -> None:
        """Print a line, in place of a passing one."""
        clear = "\r\x1b[K" if self._live else ""
        self._out.write(f"{clear}{text}\n")
        self._out.flush()

    def passing(self, text: str) -> None:
        """Say what is being done; the next line takes its place. Only on a terminal."""
        if self._live:
            self._out.write(f"\r\x1b[K  {self.paint(text, 'dim')}")
            self._out.flush()

    def paint(self, text: str, colour: str) -> str:
        """Colour a text, if this screen has colours."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._coloured else text

    def title(self, text: str) -> None:
        """Print a heading."""
        self.line()
        self.line(f"  {self.paint(text, 'bold')}")
        self.line()

    def fact(self, name: str, text: str) -> None:
        """Print a name and what it is, the long ones on several lines."""
        indent = " " * 14
        wrapped = textwrap.wrap(text, width=96, initial_indent=indent, subsequent_indent=indent)
        wrapped[0] = f"  {self.paint(f'{name:<12}', 'cyan')}{wrapped[0].lstrip()}"
        for row in wrapped:
            self.line(row)

    def table_head(self, *, events: bool) -> None:
        """Print the head of the table of days.

        :param events: whether events are told, and not memberships.
        """
        self._columns = {**(_EVENTS if events else _AUDIENCES), **_ALWAYS}
        head = self._row("as of", {name: name for name in self._columns}, "KB", "seconds")
        marks = self.paint(f"{'exited -':>{_BAR}}", "red") + "|" + self.paint("+ entered", "green")
        self.line(f"  {self.paint(head, 'dim')}   {'' if events else marks}".rstrip())

    def table_row(self, day: date, summary: Mapping[str, Any], seconds: float) -> None:
        """Print what one day's run did."""
        cells = {name: f"{summary[name]:,}" for name in self._columns}
        row = self._row(str(day), cells, f"{summary['bytes'] / 1000:,.0f}", f"{seconds:.1f}")
        bar = self._bar(summary) if "entered" in summary else ""
        self.line(f"  {row}   {bar}".rstrip())

    def _row(self, day: str, cells: Mapping[str, str], kilobytes: str, seconds: str) -> str:
        between = " ".join(format(cells[name], width) for name, width in self._columns.items())
        return f"{day:<10} {between} {kilobytes:>6} {seconds:>8}"

    def message(self, message: Mapping[str, Any]) -> None:
        """Print a message, its list of users, if it has one, cut short."""
        if "users" not in message:
            for text in json.dumps(message, indent=2).splitlines():
                self.line(f"    {text}")
            return
        users = [f"    {json.dumps(user)}" for user in message["users"]]
        shown = ",\n".join(users[:_SHOWN_USERS]).splitlines()
        if len(users) > len(shown):
            shown[-1] += ","
            shown.append("    " + self.paint(f"... and {len(users) - len(shown):,} more", "dim"))
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in message.items() if name != "users"
        ]
        for text in ("{", *lines, '  "users": [', *shown, "  ]", "}"):
            self.line(f"    {text}")

    def _bar(self, summary: Mapping[str, Any]) -> str:
        """Draw a day's exits to the left and its entries to the right; ``<`` and ``>`` where they don't fit."""
        if summary["previous_as_of"] is None:
            return self.paint(f"{'':{_BAR}}|everybody, on the first run", "dim")
        entered, exited = summary["entered"], summary["exited"]
        if not self._users_per_mark:
            # The days to come are not known; leave the first one's bar room to double.
            self._users_per_mark = max(1, -(-2 * max(entered, exited) // _BAR))
        left, right = (-(-n // self._users_per_mark) for n in (exited, entered))
        minus = "-" * left if left <= _BAR else "<" + "-" * (_BAR - 1)
        plus = "+" * right if right <= _BAR else "+" * (_BAR - 1) + ">"
        return " " * (_BAR - len(minus)) + self.paint(minus, "red") + "|" + self.paint(plus, "green")


@contextlib.contextmanager
def only_screen(log: Path) -> Iterator[Screen]:
    """Open the screen, and send everything else that this process prints to a file.

    By file descriptor, because loggers, libraries and child processes don't ask where ``sys.stdout`` is.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with (
        log.open("ab") as quiet,
        open(kept[0], "w", encoding=sys.stdout.encoding, errors="replace", closefd=False) as out,
    ):
        os.dup2(quiet.fileno(), 1)
        os.dup2(quiet.fileno(), 2)
        try:
            yield Screen(out)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(kept, start=1):
                os.dup2(original, descriptor)
                os.close(original)
