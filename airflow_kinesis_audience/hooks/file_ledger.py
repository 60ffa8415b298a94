"""The ledger's rows as files, one each, for a state that is kept apart from the warehouse.

A row is the file of its number, which one worker alone creates. A hundred rows that are complete are written
together once more, so that a long log is read in few files; that copy is a convenience, and the rows decide.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_kinesis_audience.exceptions import LedgerConflict
from airflow_kinesis_audience.ledger_rows import CHECKPOINT, Row
from airflow_kinesis_audience.sql import slug

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_kinesis_audience.hooks.files import Files

FOLD_ROWS = 100
_SYNC_LOG = "sync"
"""What the sync's own log, which has no name, is called as a directory."""

_CLOSED = "closed"


class FileRows:
    """The rows of one sync, as files.

    :param files: where they are.
    :param schema: the directory of the state.
    """

    def __init__(self, files: Files, schema: str, sync_id: str) -> None:
        self._files = files
        self._schema = schema
        self._sync = f"{schema}/ledger/{slug(sync_id)}"

    def create(self) -> None:
        """Make sure that the storage keeps two workers apart."""
        self._files.make_room(f"{self._sync}/row")
        self._files.check()

    def read(self, known: Mapping[str, int]) -> list[Row]:
        """Read the rows that are not known; of checkpoints each log's last row alone."""
        found = []
        for directory in self._files.find(self._sync):
            log = "" if directory == _SYNC_LOG else directory
            rows = self._read_log(directory, known.get(log, 0))
            found += [row for row in rows if row.event != CHECKPOINT or row is rows[-1]]
        return found

    def append(self, row: Row) -> None:
        """Append a row; see ``LedgerRows``."""
        if row.event == _CLOSED:
            self._mark_closed(row)
        name = self._name(row.log or _SYNC_LOG, row.sequence)
        self._files.make_room(name)
        try:
            self._files.create(name, _encode([row]))
        except FileExistsError:
            [there] = self._read_files([name])
            if there.token != row.token:
                raise LedgerConflict from None
        if row.sequence % FOLD_ROWS == 0:
            self._fold(row)

    def read_all(self, event: str) -> list[Row]:
        """Read rows of all syncs, of the one event that is marked: the end of a sync."""
        assert event == _CLOSED  # noqa: S101
        directory = f"{self._schema}/ledger/{_CLOSED}"
        marked = self._read_files([f"{directory}/{name}" for name in self._files.find(directory)])
        return sorted((row for row in marked if self._is_there(row)), key=lambda row: row.as_of)

    def _read_log(self, directory: str, after: int) -> list[Row]:
        names = self._files.find(f"{self._sync}/{directory}")
        folded = {int(name.removesuffix(".json")) for name in names if name.endswith(".json")}
        blocks = sorted(int(name) for name in names if name.isdigit())
        paths = []
        for block in (b for b in blocks if (b + 1) * FOLD_ROWS > after):
            whole = f"{self._sync}/{directory}/{block:08}"
            if block in folded and block * FOLD_ROWS >= after:
                paths.append(f"{whole}.json")
            else:
                rows = (int(name.removesuffix(".json")) for name in self._files.find(whole) if name[0] != ".")
                paths += [f"{whole}/{number:010}.json" for number in sorted(rows) if number > after]
        return list(self._read_files(paths))

    def _read_files(self, paths: list[str]) -> Iterator[Row]:
        for content in self._files.read(paths):
            for line in content.splitlines():
                yield Row(*json.loads(line))

    def _name(self, directory: str, number: int) -> str:
        return f"{self._sync}/{directory}/{(number - 1) // FOLD_ROWS:08}/{number:010}.json"

    def _fold(self, last: Row) -> None:
        directory = last.log or _SYNC_LOG
        numbers = range(last.sequence - FOLD_ROWS + 1, last.sequence + 1)
        rows = list(self._read_files([self._name(directory, number) for number in numbers]))
        kept = [row for row in rows if row.event != CHECKPOINT or row is rows[-1]]
        block = (last.sequence - 1) // FOLD_ROWS
        self._files.replace(f"{self._sync}/{directory}/{block:08}.json", _encode(kept))

    def _mark_closed(self, row: Row) -> None:
        """Write beside all syncs that this one ends; it counts only together with the row itself."""
        name = f"{self._schema}/ledger/{_CLOSED}/{row.token}.json"
        self._files.make_room(name)
        self._files.replace(name, _encode([row]))

    def _is_there(self, row: Row) -> bool:
        name = f"{self._schema}/ledger/{slug(row.sync_id)}/{_SYNC_LOG}/{(row.sequence - 1) // FOLD_ROWS:08}"
        path = f"{name}/{row.sequence:010}.json"
        if f"{row.sequence:010}.json" not in self._files.find(name):
            return False
        return next(self._read_files([path])).token == row.token


def _encode(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
