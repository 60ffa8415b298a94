"""``plan --render`` as its users run it: with a DAG file whose publish tasks it finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.readers.masked_sample import MASK
from tests.airflow.running import DIFF, PUBLISH, audience_dag
from tests.airflow.test_cli import PEOPLE, PRIVATE, Commands, as_a_program, command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.airflow.conftest import Stream, Warehouse

__all__ = ["as_a_program", "command"]


def test_a_plan_renders_for_each_publish_task_of_its_file(
    command: Commands, warehouse: Warehouse, stream: Stream, tmp_path: Path
) -> None:
    warehouse.members(PEOPLE)
    command.connect(warehouse=warehouse.connection, aws=stream.connection)
    _, text = audience_dag(DIFF, {**PUBLISH, "stream_name": stream.name})
    (file := tmp_path / "lapsed.py").write_text(text)
    [rendered] = json.loads(command("plan", str(file), "--render", "2", "--json"))["messages"]
    assert rendered["destination"].endswith(f"/{stream.name}")
    assert [(c["action"], c["audience_id"]) for c in rendered["changes"]] == [("entered", "gs72ns")] * 2
    shown = command("plan", str(file), "--render", "2")
    for printed in (json.dumps(rendered, ensure_ascii=False), shown):
        assert MASK in printed
        assert [value for value in PRIVATE if value in printed] == []
    assert "messages" not in json.loads(command("plan", str(file), "--json"))
