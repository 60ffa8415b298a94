"""What somebody else has written, in a name or a message, does nothing to the terminal on which it is shown."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from airflow_kinesis_audience.cli import status
from airflow_kinesis_audience.cli.masking import one_line
from airflow_kinesis_audience.hooks.state import State, open_ledger

EVIL = "a\x1b[2J\x07\r\nb\x9b31m\u202ec\x00"
WRITTEN = r"a\x1b[2J\x07\r\nb\x9b31m\u202ec\x00"


def test_control_characters_are_written_out_and_letters_are_not() -> None:
    assert one_line(EVIL) == WRITTEN
    assert one_line("Größe: 7 → 8, 東京 \U0001f600") == "Größe: 7 → 8, 東京 \U0001f600"


def test_status_shows_a_name_with_control_characters_in_one_line(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    status.add_arguments(parser)
    given = parser.parse_args([EVIL.replace("\x00", ""), "--state-path", str(tmp_path)])
    out = io.StringIO()
    status.run(given, out)
    assert out.getvalue().startswith(WRITTEN.removesuffix(r"\x00"))
    assert not [c for c in out.getvalue() if not c.isprintable() and c != "\n"]


@pytest.mark.parametrize("schema", ["../elsewhere", "a/b", "..", ".hidden", "a\\b", "/etc", ""])
def test_a_state_schema_that_leaves_the_state_s_place_is_refused(schema: str, tmp_path: Path) -> None:
    state = State(warehouse_conn_id="none", state_schema=schema, state_path=str(tmp_path / "state"))
    with (
        pytest.raises(ValueError, match="must not contain a slash"),
        open_ledger(state, "dag.diff", tag=None) as ledger,
    ):
        ledger.read()
    assert list(tmp_path.iterdir()) == []
