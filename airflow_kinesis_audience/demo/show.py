"""What the demo prints: facts, a row per day and one message, drawn by rich. It computes nothing that matters.

A row fits 80 columns. Colours and passing lines are for terminals alone; everything reads the same without them.
The rest of the process is kept quiet: what Airflow and others print goes to a file while the screen is open.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.highlighter import JSONHighlighter
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pathlib import Path

_BAR = 7
"""Characters on each side of a day's bar."""
_AUDIENCES = {"members": 7, "entered": 7, "exited": 6, "updated": 7, "records": 7}
_EVENTS = {"events": 8, "messages": 9, "records": 8}
_NAME_WIDTH, _DAY_WIDTH, _KILOBYTES_WIDTH, _SECONDS_WIDTH = 11, 10, 6, 5
_SHOWN_USERS = 2


class Screen:
    """Where the demo prints; made by :func:`open_screen`.

    :param passing: what stands below everything else, for as long as it is true.
    """

    def __init__(self, console: Console, passing: Live) -> None:
        self._console = console
        self._passing = passing
        self._users_per_mark = 0
        self._columns: Mapping[str, int] = {}

    def line(self, text: str | Text = "", style: str = "") -> None:
        """Print a text, however long it is."""
        self._console.print(Text(style=style).append(text), soft_wrap=True)

    def passing(self, text: str) -> None:
        """Show what is being done, below everything else and until the next call. Only on a terminal."""
        self._passing.update(Text(f"  {text}", style="dim"), refresh=True)

    def title(self, text: str) -> None:
        """Print a heading."""
        self.line()
        self.line(f"  {text}", style="bold")
        self.line()

    def fact(self, name: str, text: str) -> None:
        """Print a name and what it is, the long ones on several lines."""
        self._columns_of((_NAME_WIDTH, "left", Text(name, style="cyan")), (None, "left", Text(text)))

    def verdict(self, verdict: str, text: str, *, good: bool) -> None:
        """Print what came out, and what that means."""
        self.line(Text.assemble("  ", (verdict, "green" if good else "red"), f": {text}"))

    def table_head(self, *, events: bool) -> None:
        """Print the head of the table of days.

        :param events: whether events are sent, and not changes of memberships.
        """
        self._columns = _EVENTS if events else _AUDIENCES
        bar = Text.assemble((f"{'exits-':>{_BAR}}", "red"), "|", ("+enters", "green"))
        self._row("as of", [*self._columns, "KB", "s"], Text() if events else bar, style="dim")

    def table_row(self, day: date, summary: Mapping[str, Any], seconds: float) -> None:
        """Print what one day's run did."""
        numbers = [f"{summary[name]:,}" for name in self._columns]
        numbers += [f"{summary['bytes'] / 1000:,.0f}", f"{seconds:.1f}"]
        self._row(str(day), numbers, self._bar(summary) if "entered" in summary else Text())

    def message(self, message: Mapping[str, Any]) -> None:
        """Print a message, its list of users, if it has one, cut short."""
        users: Sequence[Any] = message.get("users", ())
        shown = {**message, "users": users[:_SHOWN_USERS]} if users else message
        text = Text(textwrap.indent(json.dumps(shown, indent=2), " " * 4))
        JSONHighlighter().highlight(text)
        self.line(text)
        if len(users) > _SHOWN_USERS:
            self.line(f"    ... and {len(users) - _SHOWN_USERS:,} more users", style="dim")

    def _row(self, day: str, numbers: Sequence[str], bar: Text, style: str = "") -> None:
        widths = [*self._columns.values(), _KILOBYTES_WIDTH, _SECONDS_WIDTH]
        self._columns_of(
            (_DAY_WIDTH, "left", Text(day, style)),
            *((width, "right", Text(number, style)) for width, number in zip(widths, numbers, strict=True)),
            (2 * _BAR + 1, "left", bar),
        )

    def _columns_of(self, *cells: tuple[int | None, Any, Text]) -> None:
        """Print one row of columns: the width of each, its side and its text."""
        row = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        row.add_column(width=1)
        for width, side, _ in cells:
            row.add_column(width=width, justify=side, no_wrap=width is not None)
        row.add_row("", *(text for _, _, text in cells))
        self._console.print(row)

    def _bar(self, summary: Mapping[str, Any]) -> Text:
        """Draw a day's exits to the left and its entries to the right; ``<`` and ``>`` where they don't fit."""
        if summary["previous_as_of"] is None:
            return Text("(the first run)", style="dim")
        entered, exited = summary["entered"], summary["exited"]
        if not self._users_per_mark:
            # The days to come are not known; the first one's bar may double.
            self._users_per_mark = max(1, -(-2 * max(entered, exited) // _BAR))
        left, right = (-(-n // self._users_per_mark) for n in (exited, entered))
        minus = "-" * left if left <= _BAR else "<" + "-" * (_BAR - 1)
        plus = "+" * right if right <= _BAR else "+" * (_BAR - 1) + ">"
        return Text.assemble((f"{minus:>{_BAR}}", "red"), "|", (plus, "green"))


@contextlib.contextmanager
def open_screen(out: TextIO) -> Iterator[Screen]:
    """Open a screen on a text stream, a terminal or not."""
    console = Console(file=out, highlight=False)
    # No thread of its own: the process starts others. And nothing but the screen prints to this stream.
    passing = Live(
        Group(),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with passing:
        yield Screen(console, passing)


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
            with open_screen(out) as screen:
                yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in enumerate(kept, start=1):
                os.dup2(original, descriptor)
                os.close(original)
