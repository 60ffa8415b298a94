"""What the README shows is what there is: its DAG can be built, its message is one that consumers read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from airflow_kinesis_audience.consumer import AudienceConsumer

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_dag_of_the_readme_is_a_diff_and_a_publish_that_waits_for_it() -> None:
    [text] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), namespace)  # noqa: S102
    tasks = namespace["changes"].dag.task_dict
    assert sorted(tasks) == ["diff", "publish"]
    assert tasks["publish"].upstream_task_ids == {"diff"}


def test_the_message_of_the_readme_is_one_that_the_consumer_reads() -> None:
    message = next(m for m in re.findall(r"```json\n(.*?)```", README, re.DOTALL) if "cohort_id" in m)
    consumer = AudienceConsumer()
    consumer.apply(message)
    assert consumer.members("gs72ns") == {"u-17"}
    assert consumer.properties("gs72ns", "u-17") == {"city": "Oslo"}
