"""Files of a state that is kept apart: created by one alone, whole, found again; on a disk and in S3 over HTTP."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pyarrow as pa
import pytest

from airflow_kinesis_audience.core.exceptions import (
    LedgerConflict,
    LedgerUnreadable,
    TaskEnded,
    WarehouseRefused,
    WarehouseUnavailable,
)
from airflow_kinesis_audience.core.state.ledger import Ledger
from airflow_kinesis_audience.core.state.ledger_rows import Row
from airflow_kinesis_audience.core.state.sync_details import TableStarted
from airflow_kinesis_audience.demo.local_kinesis import emulator
from airflow_kinesis_audience.hooks.files.duckdb_parquet import DuckDbParquetWarehouse
from airflow_kinesis_audience.hooks.files.ledger import BLOCK_ROWS, FileLedgerTable
from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage
from airflow_kinesis_audience.hooks.files.temporary_home import TemporaryHome
from airflow_kinesis_audience.hooks.state import open_files
from tests.warehouses import day


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    import s3fs

    with emulator() as endpoint_url:
        boto3.client("s3", endpoint_url=endpoint_url).create_bucket(Bucket="state")
        yield s3fs.S3FileSystem(endpoint_url=endpoint_url)


@pytest.fixture(params=["disk", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    if request.param == "disk":
        return open_files(f"{tmp_path}/a b'c")
    return ObjectStorage(request.getfixturevalue("bucket"), f"state/{tmp_path.name}")


def test_of_many_who_create_a_file_one_does(files: ObjectStorage) -> None:
    files.make_directory("ledger/1")
    ready, made = threading.Barrier(8), []

    def create(who: int) -> None:
        ready.wait()
        try:
            files.create("ledger/1", str(who).encode() * 1000)
            made.append(who)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=create, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = made
    assert list(files.read(["ledger/1"])) == [str(winner).encode() * 1000]
    assert files.find("ledger") == ["1"]


def test_files_are_found_read_in_order_and_removed(files: ObjectStorage) -> None:
    assert files.find("nowhere") == []
    for name in ("x/b", "x/a", "x/deep/c"):
        files.make_directory(name)
        files.create(name, name.encode())
    assert files.find("x") == ["a", "b", "deep"]
    assert list(files.read(["x/b", "x/deep/c", "x/a"])) == [b"x/b", b"x/deep/c", b"x/a"]
    files.replace("x/a", b"other")
    files.remove("x/b")
    files.remove("x/b")
    assert files.find("x") == ["a", "deep"]
    assert list(files.read(["x/a"])) == [b"other"]
    files.check()
    assert files.find("x") == ["a", "deep"]


def ledger_of(files: ObjectStorage, sync_id: str = "one") -> Ledger:
    return Ledger(None, "state", sync_id, FileLedgerTable(files, "state", sync_id))  # type: ignore[arg-type]


def row(number: int, *, log: str = "", event: str = "started", sync: str = "one") -> Row:
    return Row(sync, log, number, event, "2026-01-01T00:00:00Z", "{}", "", f"{sync}-{log}-{number}-{event}")


def test_a_long_log_is_read_in_few_files(tmp_path: Path) -> None:
    read: list[str] = []

    class Counting(ObjectStorage):
        def read(self, names: Any) -> Any:
            read.extend(names)
            return super().read(names)

    files = Counting(fsspec.filesystem("file"), str(tmp_path))
    rows = FileLedgerTable(files, "state", "one")
    rows.create()
    last = 3 * BLOCK_ROWS + 7
    for number in range(1, last + 1):
        rows.append(row(number))
        rows.append(row(number, log="a", event="checkpoint" if number % 2 else "sending"))
    read.clear()
    found = rows.read({})
    assert [r.sequence for r in found if not r.log] == list(range(1, last + 1))
    assert len(read) == 2 * (3 + 7)
    assert max(r.sequence for r in found if r.log) == last
    read.clear()
    assert [r.sequence for r in rows.read({"": last - 2, "a": last})] == [last - 1, last]
    assert len(read) == 2
    with pytest.raises(LedgerConflict):
        rows.append(row(5)._replace(token="another"))
    rows.append(row(5))  # its answer was lost the first time


def test_the_end_of_a_sync_is_found_by_others_and_only_if_it_is_one(files: ObjectStorage) -> None:
    one, other = FileLedgerTable(files, "state", "one"), FileLedgerTable(files, "state", "other")
    for rows in (one, other):
        rows.create()
    one.append(row(1, event="closed"))
    other.append(row(1, sync="other"))
    with pytest.raises(LedgerConflict):
        other.append(row(1, sync="other", event="closed"))
    assert [r.sync_id for r in other.read_all("closed")] == ["one"]


def test_two_ledgers_over_the_same_files_see_one_order(files: ObjectStorage) -> None:
    ledgers = [ledger_of(files) for _ in range(2)]
    for ledger in ledgers:
        ledger.prepare()
    ledgers[0].append("", TableStarted(table="t"), as_of=day(0))
    with pytest.raises(LedgerConflict):
        ledgers[1].append("", TableStarted(table="u"), as_of=day(0))
    assert ledgers[1].read().timeline.writer == "t"


def test_a_storage_that_cannot_keep_two_apart_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state_path is on memory.*expected one of file, s3, gs, abfs"):
        ObjectStorage(fsspec.filesystem("memory"), "state")
    with pytest.raises(ValueError, match=r"state_path is 'nowhere://state'.*expected one of"):
        open_files("nowhere://state")
    with pytest.raises(ValueError, match="state_path is empty"):
        open_files(" ")


def test_a_storage_that_writes_a_file_twice_is_found_out_before_the_first_row(tmp_path: Path) -> None:
    class Forgetful(ObjectStorage):
        def create(self, name: str, content: bytes) -> None:
            self.replace(name, content)

    files = Forgetful(fsspec.filesystem("file"), str(tmp_path))
    ledger = ledger_of(files)
    ledger.prepare()
    with pytest.raises(WarehouseRefused, match="could overwrite each other"):
        ledger.append("", TableStarted(table="t"), as_of=day(0))
    assert not ledger_of(files).read().timeline.writer


def test_a_disk_that_may_not_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="state_path"):
        FileLedgerTable(open_files(f"{tmp_path}/file/below"), "state", "one").create()


def test_a_row_that_is_being_written_is_none_for_any_sync(files: ObjectStorage) -> None:
    one, other = FileLedgerTable(files, "state", "one"), FileLedgerTable(files, "state", "other")
    one.append(row(1, event="closed"))
    for directory in ("state/ledger/closed", one._name("sync", 1).rpartition("/")[0]):
        files.replace(f"{directory}/.0123456789abcdef", b'["one", "", 2')
    assert [r.sync_id for r in other.read_all("closed")] == ["one"]
    assert len(one.read({})) == 1


def test_a_full_disk_leaves_no_draft_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = FileLedgerTable(open_files(str(tmp_path)), "state", "one")
    rows.append(row(1))

    def full(_opened: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for event in ("started", "closed"):
            with pytest.raises(WarehouseUnavailable, match="is full; free some space"):
                rows.append(row(2, event=event))
    assert [r.sequence for r in FileLedgerTable(open_files(str(tmp_path)), "state", "one").read({})] == [1]
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    rows.append(row(2))


def test_what_a_row_says_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = FileLedgerTable(open_files(str(tmp_path)), "state", "one")
    rows.append(row(1))
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def watched_fsync(opened: int) -> None:
        found = os.fstat(opened)
        steps.append("names" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} B")
        fsync(opened)

    def watched_link(draft: Path, target: Path) -> None:
        steps.append("link")
        link(draft, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    rows.append(row(2))
    [path] = tmp_path.rglob("0000000002.json")
    assert steps == [f"{path.stat().st_size} B", "link", "names"]
    steps.clear()
    rows.append(row(1, log="new"))
    assert steps[0] == "names"  # of the directory in which the log's is new


@pytest.mark.parametrize("left", [b"", b'["one", "", 2, "star', b'["one", "", 2]\n'])
def test_a_row_that_is_cut_off_is_never_taken_for_none(tmp_path: Path, left: bytes) -> None:
    ledger = ledger_of(open_files(str(tmp_path)))
    ledger.prepare()
    for table in ("t", "u"):
        ledger.append("", TableStarted(table=table), as_of=day(0))
    [path] = tmp_path.rglob("0000000002.json")
    path.write_bytes(left)
    with pytest.raises(
        LedgerUnreadable, match=rf"of sync 'one' .*{path} is empty or truncated: restore that file"
    ):
        ledger_of(open_files(str(tmp_path))).prepare()


def test_a_copy_of_rows_that_is_cut_off_is_made_up_for_by_the_rows(tmp_path: Path) -> None:
    rows = FileLedgerTable(open_files(str(tmp_path)), "state", "one")
    for number in range(1, BLOCK_ROWS + 2):
        rows.append(row(number))
    [block] = tmp_path.rglob("00000000.json")
    block.write_bytes(block.read_bytes()[:1000])
    assert [r.sequence for r in rows.read({})] == list(range(1, BLOCK_ROWS + 2))


def test_two_syncs_whose_short_names_are_equal_have_a_ledger_each(
    files: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kinesis_audience.hooks.files.ledger.slug", lambda _sync_id: "same_0a1b2c3d")
    for sync_id in ("one", "other"):
        ledger = ledger_of(files, sync_id)
        ledger.prepare()
        ledger.append("", TableStarted(table=f"table of {sync_id}"), as_of=day(0))
    assert [ledger_of(files, s).read().timeline.writer for s in ("one", "other")] == [
        "table of one",
        "table of other",
    ]


def test_a_ledger_under_its_short_name_goes_on_and_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_kinesis_audience.hooks.files.ledger.slug", lambda _sync_id: "same_0a1b2c3d")
    files = open_files(str(tmp_path))
    ledger = ledger_of(files)
    ledger.prepare()
    ledger.append("", TableStarted(table="t"), as_of=day(0))
    ledgers = tmp_path / "state" / "ledger"
    [written] = ledgers.iterdir()
    written.rename(ledgers / "same_0a1b2c3d")
    before = ledger_of(files)
    assert before.read().timeline.writer == "t"
    before.append("", TableStarted(table="u"), as_of=day(1))
    assert ledger_of(files).read().timeline.writer == "u"
    assert not ledger_of(files, "other").read().timeline.writer
    assert [path.name for path in ledgers.iterdir()] == ["same_0a1b2c3d"]
    (ledgers / "same_0a1b2c3d").rename(ledgers / FileLedgerTable(files, "state", "other")._sync.rpartition("/")[2])
    with pytest.raises(LedgerUnreadable, match=r"of sync 'other'.* has rows of another sync"):
        ledger_of(files, "other").prepare()


def test_rows_of_a_killed_task_go_with_the_next_one_and_those_of_a_living_one_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; from airflow_kinesis_audience.hooks.files.temporary_home import TemporaryHome\n"
        "home = TemporaryHome(); (home.path / 'rows').write_text('ada@example.com')\n"
        "print(home.path, flush=True); sys.stdin.read()"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    tasks = [subprocess.Popen([sys.executable, "-c", script], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    living, killed = (Path(task.stdout.readline().strip()) for task in tasks)
    tasks[1].kill()
    tasks[1].wait()
    assert (killed / "rows").exists()
    home = TemporaryHome()
    assert {path for path in tmp_path.iterdir() if path.is_dir()} == {living, home.path}
    assert (living / "rows").exists()
    home.remove()
    tasks[0].communicate()


@pytest.mark.parametrize(
    "error", [WarehouseUnavailable("the server ended the connection"), WarehouseRefused("no text"), TaskEnded()]
)
@pytest.mark.parametrize("first", [0, 1])
def test_an_error_of_the_warehouse_whose_rows_are_brought_is_its_own(
    tmp_path: Path, error: BaseException, first: int
) -> None:
    schema = pa.schema([("uid", pa.string())])

    def broken() -> Iterator[pa.RecordBatch]:
        for _ in range(first):
            yield pa.record_batch([["u"]], schema=schema)
        raise error

    with DuckDbParquetWarehouse(open_files(str(tmp_path))) as state:
        with pytest.raises(type(error)) as found:
            state.keep_rows(schema, broken())
        assert found.value is error
        kept = state.keep_rows(schema, iter([pa.record_batch([["u"]], schema=schema)]))
        assert state.read_rows(f"SELECT * FROM {kept}") == [("u",)]
