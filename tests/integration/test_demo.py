"""The demo as its user runs it, against an answer worked out from the file of purchases by other means.

Neither the demo's queries nor its reading of the file are used: pandas reads the text, and sets say who entered
and who left.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_audience.demo.read_back import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

for _module in ("duckdb", "moto", "pytz"):
    pytest.importorskip(_module, reason="the extra 'demo' is not installed")
pd = pytest.importorskip("pandas", reason="pandas is not installed")

ROOT = Path(__file__).resolve().parents[2]
PACKED = ROOT / "airflow_kinesis_audience" / "demo" / "cdnow_master.txt.xz"
DAGS = ROOT / "dags"
START = date(1997, 9, 1)
DAYS = [START + timedelta(days=n) for n in range(14)]
PATIENCE_SECONDS = 400


def demo(arguments: list[str], temporary: Path) -> subprocess.Popen[str]:
    """Start the demo with a directory for temporary files of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "airflow_kinesis_audience.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for the demo's output; a demo that takes too long is ended with all that it started."""
    try:
        return process.communicate(timeout=PATIENCE_SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0]
        pytest.fail(f"the demo took more than {PATIENCE_SECONDS} s and had printed:\n{output}")


def still_running(group: int) -> bool:
    """Whether a process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def temporary() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="test-demo-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    """Run the demo once; gives what it wrote, what it printed and its directory for temporary files."""
    written = tmp_path_factory.mktemp("written") / "demo.json"
    temporary = tmp_path_factory.mktemp("temporary")
    process = demo(["--days", str(len(DAYS)), "--start", str(START), "--json", str(written)], temporary)
    output = finished(process)
    assert process.returncode == 0, output
    assert not still_running(process.pid)
    return json.loads(written.read_text()), output, temporary


@pytest.fixture(scope="module")
def lapsed() -> dict[date, set[str]]:
    """Who has lapsed as of each day, and as nobody of the day before the first."""
    with lzma.open(PACKED, "rt") as lines:
        read = pd.read_csv(
            lines, sep=r"\s+", header=0, names=["customer", "day", "cds", "dollars"], dtype={"customer": str}
        )
    days = pd.to_datetime(read["day"].astype(str), format="%Y%m%d").dt.date
    found: dict[date, set[str]] = {START - timedelta(days=1): set()}
    for as_of in DAYS:
        before = set(read["customer"][days < as_of])
        lately = set(read["customer"][(days < as_of) & (days >= as_of - timedelta(days=90))])
        found[as_of] = before - lately
    return found


@pytest.mark.slow
def test_members_entries_and_exits_of_every_day_are_those_of_the_purchases(
    ran: tuple[dict[str, Any], str, Path], lapsed: dict[date, set[str]]
) -> None:
    expected = []
    for as_of in DAYS:
        before, now = lapsed[as_of - timedelta(days=1)], lapsed[as_of]
        expected.append((str(as_of), len(now), len(now - before), len(before - now)))
    found = [(day["as_of"], day["members"], day["entered"], day["exited"]) for day in ran[0]["days"]]
    assert found == expected
    assert all(exited for _, _, _, exited in expected[1:]), (
        "a stretch in which nobody leaves would show too little"
    )


@pytest.mark.slow
def test_the_consumer_ends_with_the_members_of_the_last_day_and_no_others(
    ran: tuple[dict[str, Any], str, Path], lapsed: dict[date, set[str]]
) -> None:
    written = ran[0]
    assert len(set(written["consumer_members"])) == len(written["consumer_members"])
    assert set(written["consumer_members"]) == lapsed[DAYS[-1]]
    assert written["equal"] is True


@pytest.mark.slow
def test_every_change_is_acknowledged(ran: tuple[dict[str, Any], str, Path]) -> None:
    for day in ran[0]["days"]:
        assert day["delivered"] == day["entered"] + day["exited"] + day["updated"] - day["omitted"]
        assert day["rejected"] == 0


@pytest.mark.slow
def test_the_output_is_for_people_and_the_directory_is_gone(ran: tuple[dict[str, Any], str, Path]) -> None:
    _, output, temporary = ran
    assert [line for line in output.splitlines() if line.strip().startswith("exactly equal")]
    for day in DAYS:
        assert sum(line.strip().startswith(str(day)) for line in output.splitlines()) == 1
    assert "\x1b" not in output, "colours are for terminals"
    assert "[info" not in output, "Airflow's log got onto the screen"
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_stopped_demo_leaves_no_process_and_no_file(temporary: Path) -> None:
    process = demo([], temporary)
    deadline = time.monotonic() + PATIENCE_SECONDS
    # The metadata database appears while another process of the demo makes it: both have to go.
    while (
        not list(temporary.glob("*/airflow/airflow.db")) and process.poll() is None and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = finished(process)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "Traceback" not in output
    assert not still_running(process.pid)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("believed", "difference"),
    [
        ({"a": {"spent": "1.00"}, "b": {}}, (0, 0, 0)),
        ({"b": {}}, (1, 0, 0)),
        ({"a": {"spent": "1.00"}, "b": {}, "c": {}}, (0, 1, 0)),
        ({"a": {"spent": "1.0"}, "b": {}}, (0, 0, 1)),
    ],
)
def test_any_difference_between_consumer_and_warehouse_is_counted_and_denies_equality(
    believed: dict[str, dict[str, str]], difference: tuple[int, int, int]
) -> None:
    verdict = compare(believed, {"a": {"spent": "1.00"}, "b": {}})
    assert (verdict.missing, verdict.invented, verdict.stale) == difference
    assert verdict.equal is not any(difference)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--days", "0"], "expected 1 or more"),
        (["--start", "yesterday"], "is not a date"),
        (["--start", "1997-01-01"], "choose another --start"),
        (["--start", "1998-06-30", "--days", "3"], "fewer --days"),
        (["--keep", str(ROOT)], "is not an empty directory"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_started(
    arguments: list[str], said: str, temporary: Path
) -> None:
    process = demo(arguments, temporary)
    output = finished(process)
    assert process.returncode == 2, output
    assert said in output
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("message_format", "known"),
    [
        pytest.param("mparticle_audience", "members, with every identity of each", marks=pytest.mark.long_story),
        ("adobe_profile", "profiles, with every audience, attribute and identity of each"),
        ("mparticle_events", "purchases, with every field of each"),
    ],
)
def test_in_each_format_the_consumer_ends_with_what_is_true(
    message_format: str, known: str, temporary: Path, tmp_path: Path
) -> None:
    written = tmp_path / "demo.json"
    process = demo(["--format", message_format, "--days", "2", "--json", str(written)], temporary)
    output = finished(process)
    assert process.returncode == 0, output
    assert f"exactly equal: all {known}" in output
    assert [day["rejected"] for day in json.loads(written.read_text())["days"]] == [0, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_db")
def test_the_example_dags_are_parsed_by_airflow_without_errors() -> None:
    bag_module = pytest.importorskip("airflow.dag_processing.dagbag")
    bag = bag_module.DagBag(dag_folder=str(DAGS), safe_mode=False)
    assert not bag.import_errors
    chains = {
        dag_id: {task.task_id: task.downstream_task_ids for task in dag.tasks} for dag_id, dag in bag.dags.items()
    }
    for dag_id in ("lapsed_customers", "lapsed_to_firehose", "customer_profiles"):
        assert chains[dag_id] == {"diff": {"publish"}, "publish": set()}
    assert chains["purchases_as_events"] == {"publish": set()}
    for dag in bag.dags.values():
        assert dag.max_active_runs == 1
        assert dag.catchup is (dag.dag_id in ("purchases_as_events", "lapsed_backfilled"))
        assert all(task.retries and task.retry_delay for task in dag.tasks)
