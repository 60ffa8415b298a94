"""Files of a state that is kept apart: created by one alone, whole, found again; on a disk and in S3 over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest

from airflow_kinesis_audience.demo.local_kinesis import emulator
from airflow_kinesis_audience.exceptions import LedgerConflict, WarehouseRefused
from airflow_kinesis_audience.hooks.file_ledger import FOLD_ROWS, FileRows
from airflow_kinesis_audience.hooks.files import Files
from airflow_kinesis_audience.hooks.state import open_files
from airflow_kinesis_audience.ledger import Event, Ledger
from airflow_kinesis_audience.ledger_rows import Row
from tests.warehouses import day


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    import s3fs

    with emulator() as endpoint_url:
        boto3.client("s3", endpoint_url=endpoint_url).create_bucket(Bucket="state")
        yield s3fs.S3FileSystem(endpoint_url=endpoint_url)


@pytest.fixture(params=["disk", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "disk":
        return open_files(f"{tmp_path}/a b'c")
    return Files(request.getfixturevalue("bucket"), f"state/{tmp_path.name}")


def test_of_many_who_create_a_file_one_does(files: Files) -> None:
    files.make_room("ledger/1")
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


def test_files_are_found_read_in_order_and_removed(files: Files) -> None:
    assert files.find("nowhere") == []
    for name in ("x/b", "x/a", "x/deep/c"):
        files.make_room(name)
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


def row(number: int, *, log: str = "", event: str = "started", sync: str = "one") -> Row:
    return Row(sync, log, number, event, "2026-01-01T00:00:00Z", "{}", "", f"{sync}-{log}-{number}-{event}")


def test_a_long_log_is_read_in_few_files(tmp_path: Path) -> None:
    read: list[str] = []

    class Counting(Files):
        def read(self, names: Any) -> Any:
            read.extend(names)
            return super().read(names)

    files = Counting(fsspec.filesystem("file"), str(tmp_path))
    rows = FileRows(files, "state", "one")
    rows.create()
    last = 3 * FOLD_ROWS + 7
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


def test_the_end_of_a_sync_is_found_by_others_and_only_if_it_is_one(files: Files) -> None:
    one, other = FileRows(files, "state", "one"), FileRows(files, "state", "other")
    for rows in (one, other):
        rows.create()
    one.append(row(1, event="closed"))
    other.append(row(1, sync="other"))
    with pytest.raises(LedgerConflict):
        other.append(row(1, sync="other", event="closed"))
    assert [r.sync_id for r in other.read_all("closed")] == ["one"]


def test_two_ledgers_over_the_same_files_see_one_order(files: Files) -> None:
    ledgers = [Ledger(None, "state", "one", FileRows(files, "state", "one")) for _ in range(2)]  # type: ignore[arg-type]
    for ledger in ledgers:
        ledger.prepare()
    ledgers[0].append("", 0, Event.STARTED, as_of=day(0), detail={"table": "t"})
    with pytest.raises(LedgerConflict):
        ledgers[1].append("", 0, Event.STARTED, as_of=day(0), detail={"table": "u"})
    assert [e.detail["table"] for e in ledgers[1].read()] == ["t"]


def test_a_storage_that_cannot_keep_two_apart_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state_path is on memory.*expected one of file, s3, gs, abfs"):
        Files(fsspec.filesystem("memory"), "state")
    with pytest.raises(ValueError, match=r"state_path is 'nowhere://state'.*expected one of"):
        open_files("nowhere://state")
    with pytest.raises(ValueError, match="state_path is empty"):
        open_files(" ")


def test_a_storage_that_writes_a_file_twice_is_found_out(tmp_path: Path) -> None:
    class Forgetful(Files):
        def create(self, name: str, content: bytes) -> None:
            self.replace(name, content)

    files = Forgetful(fsspec.filesystem("file"), str(tmp_path))
    with pytest.raises(WarehouseRefused, match="could not be kept apart"):
        FileRows(files, "state", "one").create()


def test_a_disk_that_may_not_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="state_path"):
        FileRows(open_files(f"{tmp_path}/file/below"), "state", "one").create()
