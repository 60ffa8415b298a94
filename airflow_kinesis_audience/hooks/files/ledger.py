"""The ledger's rows as files, one each, for a state that is kept apart from the warehouse.

A row is the file of its number, which one worker alone creates. A hundred rows that are complete are written
together once more, so that a long log is read in few files; that copy, like a sync's fold, is a convenience, and
the rows decide. A row that cannot be read is an error that names its file; it never reads as "nothing there".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_kinesis_audience.core.exceptions import LedgerConflict, LedgerUnreadable
from airflow_kinesis_audience.core.sql.names import long_slug, slug
from airflow_kinesis_audience.core.state.ledger_rows import Fold, Row
from airflow_kinesis_audience.core.state.ledger_tables import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from airflow_kinesis_audience.hooks.files.object_storage import ObjectStorage

BLOCK_ROWS = 100
_SYNC_LOG = "sync"
"""What the sync's own log, which has no name, is called as a directory."""

_CLOSED = "closed"
_FOLDED = "folded"


class FileLedgerTable:
    """The rows of one sync, as files.

    :param files: where they are.
    :param schema: the directory of the state.
    """

    def __init__(self, files: ObjectStorage, schema: str, sync_id: str) -> None:
        self._files = files
        self._schema = schema
        self._sync_id = sync_id
        self._sync = f"{schema}/ledger/{long_slug(sync_id)}"

    def create(self) -> None:
        """Make sure that the storage keeps two workers apart."""
        self._files.make_directory(f"{self._sync}/row")
        self._files.check()

    def read(self, known: Mapping[str, int], *, since: datetime | None = None) -> list[Row]:
        """Read the rows that are not known, of any instant; see ``LedgerTable``."""
        found: list[Row] = []
        for directory in self._find_logs():
            log = "" if directory == _SYNC_LOG else directory
            rows = self._read_log(directory, known.get(log, 0))
            found += [row for row in rows if row.event != CHECKPOINT or row is rows[-1]]
        return found

    def read_fold(self) -> Fold:
        """Read the newest fold; see ``LedgerTable``."""
        self._find_logs()
        return Fold((self._files.read_if_there(self._fold_name()) or b"").decode())

    def write_fold(self, text: str, known: Mapping[str, int]) -> None:
        """Write a fold; see ``LedgerTable``. A slow writer's may replace a newer one: more rows are read then."""
        self._files.make_directory(self._fold_name())
        self._files.replace(self._fold_name(), text.encode())

    def _fold_name(self) -> str:
        directory, _, name = self._sync.rpartition("/")
        return f"{directory}/{_FOLDED}/{name}"

    def append(self, row: Row, *, lazy: bool = False) -> None:
        """Append a row; see ``LedgerTable``."""
        if row.sequence == 1 and not row.log:
            self.create()
        if row.event == _CLOSED:
            self._mark_closed(row)
        name = self._name(row.log or _SYNC_LOG, row.sequence)
        self._files.make_directory(name)
        try:
            self._files.create(name, _encode([row]))
        except FileExistsError:
            [there] = self._read_rows([name])
            if there.token != row.token:
                raise LedgerConflict from None
        if row.sequence % BLOCK_ROWS == 0:
            self._compact(row)

    def read_all(self, event: str) -> list[Row]:
        """Read rows of all syncs, of the one event that is marked: the end of a sync."""
        assert event == _CLOSED  # noqa: S101
        directory = f"{self._schema}/ledger/{_CLOSED}"
        marked = self._read_rows([f"{directory}/{name}" for name in self._files.find(directory)], own=False)
        return sorted((row for row in marked if self._is_there(row)), key=lambda row: row.as_of)

    def read_others(self, log: str, events: Collection[str]) -> list[Row]:
        """Read rows of other syncs, the logs of each that has that log; see ``LedgerTable``."""
        newest: dict[tuple[str, str, str], Row] = {}
        ledger, log = f"{self._schema}/ledger", log or _SYNC_LOG
        for directory in self._files.find(ledger):
            sync = f"{ledger}/{directory}"
            if directory in (_CLOSED, _FOLDED) or log not in self._files.find(sync):
                continue
            paths = [path for name in {_SYNC_LOG, log} for path in self._find_files(f"{sync}/{name}")]
            rows = self._read_rows(paths, own=False)
            newest |= {(row.sync_id, row.log, row.event): row for row in rows if row.event in events}
        return [row for row in newest.values() if row.sync_id != self._sync_id]

    def of_sync(self, sync_id: str) -> FileLedgerTable:
        """Give the rows of another sync; see ``LedgerTable``."""
        return FileLedgerTable(self._files, self._schema, sync_id)

    def _find_logs(self) -> list[str]:
        """List the directories of the logs; a sync of before may have them under a shorter name.

        Two syncs can have that name, so that it counts only if the first row there is this one's.
        """
        if found := self._files.find(self._sync):
            return found
        shorter = f"{self._schema}/ledger/{slug(self._sync_id)}"
        if found := self._files.find(shorter):
            first = self._read_rows([f"{shorter}/{found[0]}/{0:08}/{1:010}.json"], own=False)
            if next(first).sync_id == self._sync_id:
                self._sync = shorter
                return found
        return []

    def _read_log(self, directory: str, after: int) -> list[Row]:
        return list(self._read_rows(self._find_files(f"{self._sync}/{directory}", after)))

    def _find_files(self, log: str, after: int = 0) -> list[str]:
        """List the files of a log's rows after a number, ascending."""
        names = self._files.find(log)
        compacted = {int(name.removesuffix(".json")) for name in names if name.endswith(".json")}
        blocks = sorted(int(name) for name in names if name.isdigit())
        paths = []
        for block in (b for b in blocks if (b + 1) * BLOCK_ROWS > after):
            whole = f"{log}/{block:08}"
            if block in compacted and block * BLOCK_ROWS >= after:
                paths.append(f"{whole}.json")
            else:
                paths += self._find_rows(whole, after)
        return paths

    def _find_rows(self, block: str, after: int = 0) -> list[str]:
        numbers = (int(name.removesuffix(".json")) for name in self._files.find(block))
        return [f"{block}/{number:010}.json" for number in sorted(numbers) if number > after]

    def _read_rows(self, paths: list[str], *, own: bool = True) -> Iterator[Row]:
        """Read the rows of files.

        :param own: they have to be of this sync.
        """
        for path, content in zip(paths, self._files.read(paths), strict=True):
            rows = _decode(content)
            if rows is None and (there := self._find_rows(path.removesuffix(".json"))):
                yield from self._read_rows(there, own=own)  # it was but the copy of these
                continue
            if rows is None:
                raise self._unreadable(path, "is empty or truncated: restore that file from a backup")
            if own and any(row.sync_id != self._sync_id for row in rows):
                raise self._unreadable(path, "has rows of another sync: restore the directory from a backup")
            yield from rows

    def _unreadable(self, path: str, found: str) -> LedgerUnreadable:
        return LedgerUnreadable(
            f"the ledger of sync {self._sync_id!r} is not valid: {self._files.address(path)} {found}. "
            "Nothing was computed or sent"
        )

    def _name(self, directory: str, number: int) -> str:
        return f"{self._sync}/{directory}/{(number - 1) // BLOCK_ROWS:08}/{number:010}.json"

    def _compact(self, last: Row) -> None:
        directory = last.log or _SYNC_LOG
        numbers = range(last.sequence - BLOCK_ROWS + 1, last.sequence + 1)
        rows = list(self._read_rows([self._name(directory, number) for number in numbers]))
        kept = [row for row in rows if row.event != CHECKPOINT or row is rows[-1]]
        block = (last.sequence - 1) // BLOCK_ROWS
        self._files.replace(f"{self._sync}/{directory}/{block:08}.json", _encode(kept))

    def _mark_closed(self, row: Row) -> None:
        """Write beside all syncs that this one ends; it counts only together with the row itself."""
        name = f"{self._schema}/ledger/{_CLOSED}/{row.token}.json"
        self._files.make_directory(name)
        self._files.replace(name, _encode([row]))

    def _is_there(self, row: Row) -> bool:
        """Whether an end that is marked is in the log of its sync."""
        marked = FileLedgerTable(self._files, self._schema, row.sync_id)
        marked._find_logs()
        name = marked._name(_SYNC_LOG, row.sequence)
        directory, _, file = name.rpartition("/")
        return file in self._files.find(directory) and next(marked._read_rows([name])).token == row.token


def _encode(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _decode(content: bytes) -> list[Row] | None:
    """Give the rows of a file; none if it is not whole."""
    try:
        rows = [Row(*json.loads(line)) for line in content.splitlines()]
    except (TypeError, ValueError):
        return None
    return rows if content.endswith(b"\n") else None
