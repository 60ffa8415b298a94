"""What README and docs show is what there is: DAGs can be built, messages are such as consumers read."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.consumer import AudienceConsumer, read_message
from airflow_kinesis_audience.formats.adobe.profile import AdobeProfile
from airflow_kinesis_audience.formats.mparticle.audience import MparticleAudience
from airflow_kinesis_audience.formats.mparticle.identity_types import DEVICE_TYPES, IDENTITY_TYPES, USER_TYPES
from airflow_kinesis_audience.formats.mparticle_events import MparticleEvents
from airflow_kinesis_audience.hooks.firehose import FirehoseStreamHook
from airflow_kinesis_audience.hooks.kinesis import KinesisStreamHook

if TYPE_CHECKING:
    from airflow_kinesis_audience.hooks.streams.stream_hook import StreamHook

ROOT = Path(__file__).parents[2]


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def run(page: str, text: str, *, name: str = "") -> dict[str, Any]:
    """Run a code block; gives its names.

    :param name: give this name to the value of the statement inside ``with DAG``, which has none.
    """
    if name:
        text = re.sub(r"^    (?=Audience|audience)", f"    {name} = ", text, count=1, flags=re.MULTILINE)
    namespace: dict[str, Any] = {}
    exec(compile(text, page, "exec"), namespace)  # noqa: S102
    return namespace


def test_the_dag_of_the_readme_is_a_diff_and_a_publish_that_waits_for_it() -> None:
    [text] = blocks("README.md", "python")
    tasks = run("README.md", text)["changes"].dag.task_dict
    assert sorted(tasks) == ["diff", "publish"]
    assert tasks["publish"].upstream_task_ids == {"diff"}


def test_the_message_of_the_readme_is_one_that_the_consumer_reads() -> None:
    message = next(m for m in blocks("README.md", "json") if "cohort_id" in m)
    consumer = AudienceConsumer()
    consumer.apply(message)
    assert consumer.members("gs72ns") == {"u-17"}
    assert consumer.properties("gs72ns", "u-17") == {"city": "Oslo"}


def check_group(tasks: dict[str, Any]) -> None:
    names = {name.rpartition(".")[2]: task for name, task in tasks.items()}
    assert sorted(names) == ["approve", "diff", "publish"]
    assert {t.rpartition(".")[2] for t in names["approve"].upstream_task_ids} == {"diff"}
    assert {t.rpartition(".")[2] for t in names["publish"].upstream_task_ids} == {"diff", "approve"}
    assert names["publish"].trigger_rule == "none_failed_min_one_success"
    assert names["diff"].on_guard == "hold_audience"


def test_the_task_group_of_the_docs_asks_a_person_between_diff_and_publish() -> None:
    [text] = blocks("docs/guards.md", "python")
    check_group(run("guards.md", text, name="group")["group"].dag.task_dict)


def test_the_example_with_an_approval_is_the_same_group_with_its_own_settings() -> None:
    dag = runpy.run_path(str(ROOT / "dags" / "lapsed_with_approval.py"))["dag"]
    check_group(dag.task_dict)
    assert dag.task_dict["lapsed.diff"].max_exits == 200
    assert dag.task_dict["lapsed.publish"].retries == 3
    assert dag.task_dict["lapsed.approve"].response_timeout.days == 3


def test_a_group_knows_the_arguments_of_its_tasks_and_no_others() -> None:
    from airflow.sdk import DAG

    from airflow_kinesis_audience.operators import audience_sync

    with (
        DAG("g", schedule=None),
        pytest.raises(TypeError, match=r"has no argument change_set, streem_name"),
    ):
        audience_sync(warehouse_conn_id="w", streem_name="s", change_set=1)


def test_the_dag_of_a_resync_in_the_docs_can_be_built() -> None:
    text = next(t for t in blocks("docs/lookback.md", "python") if "AudienceResyncOperator" in t)
    assert run("lookback.md", text, name="task")["task"].sync_id == "lapsed.diff"


def test_the_dag_of_a_replay_in_the_docs_can_be_built() -> None:
    text = next(t for t in blocks("docs/backfill.md", "python") if "AudienceReplayOperator" in t)
    assert run("backfill.md", text, name="task")["task"].since == "2026-03-01T00:00:00Z"


def test_the_last_message_of_a_resync_in_the_docs_is_one_that_the_consumer_reads() -> None:
    [message] = blocks("docs/lookback.md", "json")
    consumer = AudienceConsumer()
    consumer.apply(message)
    [resync] = consumer.resyncs()
    lifecycle = json.loads(message)["lifecycle"]
    assert (resync.members, resync.exits) == (lifecycle["members"], lifecycle["exits"])
    assert (resync.ended, resync.complete) == (True, False)


@pytest.mark.parametrize(
    ("hook", "look"),
    [(KinesisStreamHook, "DescribeStreamSummary"), (FirehoseStreamHook, "DescribeDeliveryStream")],
)
def test_the_policies_of_the_docs_allow_what_a_hook_calls_and_nothing_else(
    hook: type[StreamHook], look: str
) -> None:
    policies = [json.loads(text) for text in blocks("docs/aws.md", "json") if hook.put_action in text]
    [[statement]] = [policy["Statement"] for policy in policies]
    assert statement["Action"] == [hook.put_action, f"{hook.service}:{look}"]
    kind = hook.arn_form.split(":")[5].partition("/")[0]
    assert re.fullmatch(rf"arn:aws:{hook.service}:[a-z0-9-]+:\d{{12}}:{kind}/[a-z-]+", statement["Resource"])


def rows(page: str, head: str) -> list[list[str]]:
    """Return the rows of a table, a text per cell without its marks."""
    found = (ROOT / page).read_text().partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in found]


def test_the_settings_of_the_docs_are_those_of_the_format_with_their_defaults() -> None:
    fields = dataclasses.fields(MparticleAudience)
    defaults = MparticleAudience()
    described = {name: json.loads(default) for name, _, default, _ in rows("docs/mparticle.md", "| option |")}
    real = {field.name: getattr(defaults, field.name) for field in fields}
    assert described == {n: list(v) if isinstance(v, tuple) else v for n, v in real.items()}


def test_the_identities_of_the_docs_are_those_of_the_format_documented_or_not() -> None:
    described = {}
    for _, key, state in rows("docs/mparticle.md", "| identity |"):
        first, *more = re.findall(r"[A-Za-z]+\d*", key)
        numbers = range(int(first[-1]), int(more[0][len(first) - 1 :]) + 1) if more else ()
        names = [f"{first[:-1]}{n}" for n in numbers] or [first]
        described |= dict.fromkeys(names, state == "documented")
    assert described == {kind.name: kind.documented for kind in IDENTITY_TYPES}
    assert (len(USER_TYPES), len(DEVICE_TYPES)) == (18, 8)


def test_the_messages_of_mparticle_in_the_docs_are_such_as_consumers_read() -> None:
    enters, ends = blocks("docs/mparticle.md", "json")
    consumer = AudienceConsumer()
    consumer.apply(enters)
    identities = json.loads(enters)["UserIdentities"]
    assert consumer.identities("90001", "u-17") == identities
    assert read_message(ends).notice.event == "deleted"


def test_the_settings_of_adobe_in_the_docs_are_those_of_the_format_with_their_defaults() -> None:
    described = {name: json.loads(default) for name, default, _ in rows("docs/adobe.md", "| option |")}
    assert described == {
        field.name: getattr(AdobeProfile(), field.name) for field in dataclasses.fields(AdobeProfile)
    }


def test_the_document_of_adobe_in_the_docs_is_one_that_the_consumer_reads() -> None:
    [document] = blocks("docs/adobe.md", "json")
    consumer = AudienceConsumer()
    consumer.apply(document)
    assert (consumer.members("active_30"), consumer.members("lapsed_90")) == ({"u-17"}, set())
    assert consumer.properties("active_30", "u-17")["city"] == "Oslo"


def test_the_settings_of_events_in_the_docs_are_those_of_the_format_with_their_defaults() -> None:
    described = {name: json.loads(default) for name, default, _ in rows("docs/events.md", "| option |")}
    real = {f.name: getattr(MparticleEvents(), f.name) for f in dataclasses.fields(MparticleEvents)}
    assert described == {n: list(v) if isinstance(v, tuple) else v for n, v in real.items()}


def test_the_dag_of_events_in_the_docs_can_be_built_and_its_batch_read() -> None:
    [text] = blocks("docs/events.md", "python")
    task = run("events.md", text.replace("    EventsTo", "    task = EventsTo"))["task"]
    assert task.arrived_at_column == "loaded_at"
    [batch] = blocks("docs/events.md", "json")
    assert read_message(batch).statements == []


def test_the_dag_of_the_docs_that_waits_for_changes_can_be_built() -> None:
    text = next(text for text in blocks("docs/monitoring.md", "python") if "schedule=" in text)
    assert run("docs/monitoring.md", text)["look"] is not None


def test_the_notifier_of_the_docs_can_be_built() -> None:
    text = next(text for text in blocks("docs/monitoring.md", "python") if "AudienceNotifier" in text)
    assert run("docs/monitoring.md", text)["notifier"].late_after is not None
