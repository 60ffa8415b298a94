"""The demo's screen: a row fits a narrow terminal, colours are for terminals alone, and a text is no markup."""

from __future__ import annotations

import io
import json
from datetime import date
from typing import Any

import pytest

pytest.importorskip("rich", reason="rich is not installed")

from airflow_kinesis_audience.demo.show import Screen, open_screen

DAY = date(1997, 9, 1)
LARGEST = {
    "members": 123_456,
    "entered": 123_456,
    "exited": 12_345,
    "updated": 123_456,
    "records": 123_456,
    "bytes": 99_999_000,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show_days(screen: Screen) -> None:
    screen.table_head(events=False)
    for previous, entered, exited in ((None, 123_456, 12_345), ("then", 7, 3), ("then", 14, 0), ("then", 15, 90)):
        screen.passing("running")
        summary = {**LARGEST, "entered": entered, "exited": exited, "previous_as_of": previous}
        screen.table_row(DAY, summary, 100.0)


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return io.StringIO()


def test_the_largest_numbers_of_a_day_fit_80_columns_and_are_whole(out: io.StringIO) -> None:
    with open_screen(out) as screen:
        show_days(screen)
        screen.table_head(events=True)
        screen.table_row(DAY, {"events": 123_456, "messages": 123_456, "records": 123_456, "bytes": 999_000}, 9.5)
    lines = out.getvalue().splitlines()
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:8] == [
        *("1997-09-01", "123,456", "123,456", "12,345"),
        *("123,456", "123,456", "99,999", "100.0"),
    ]
    assert lines[6].split() == ["1997-09-01", "123,456", "123,456", "123,456", "999", "9.5"]


def test_a_bar_has_exits_left_and_entries_right_and_shows_what_does_not_fit(out: io.StringIO) -> None:
    with open_screen(out) as screen:
        show_days(screen)
    bars = [line[65:].rstrip() for line in out.getvalue().splitlines()[1:]]
    assert bars == ["(the first run)", "     --|++++", "       |+++++++", "<------|++++++>"]


def test_colours_and_passing_lines_are_for_terminals_alone(
    out: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    for each in (out, terminal):
        with open_screen(each) as screen:
            show_days(screen)
            screen.verdict("exactly equal", "all of it", good=True)
    assert "\x1b" not in out.getvalue()
    assert "running" not in out.getvalue()
    assert "\x1b[32mexactly equal\x1b[0m: all of it" in terminal.getvalue()
    assert "running" in terminal.getvalue()


def test_a_long_fact_is_wrapped_below_itself(out: io.StringIO) -> None:
    with open_screen(out) as screen:
        screen.fact("sends", "word " * 30)
    first, *more = out.getvalue().splitlines()
    assert first.startswith("  sends       word")
    assert more
    assert all(line.startswith(" " * 14 + "word") and len(line) <= 80 for line in more)


@pytest.mark.parametrize("users", [None, 1, 2, 5])
def test_a_message_is_shown_as_it_is_but_for_most_of_its_users(out: io.StringIO, users: int | None) -> None:
    message: dict[str, Any] = {"name": "[bold]not markup[/bold]", "long": "x" * 200}
    if users is not None:
        message["users"] = [{"user_id": str(n)} for n in range(users)]
    with open_screen(out) as screen:
        screen.message(message)
    text, _, cut = out.getvalue().partition("    ... and ")
    expected = message if users is None else {**message, "users": message["users"][:2]}
    assert json.loads(text) == expected
    assert cut == ("3 more users\n" if users == 5 else "")
