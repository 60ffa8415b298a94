"""Files under one address: on a disk, or in any object storage that Airflow reaches.

They are written whole or not at all, reach the disk before anybody sees them, and are never changed. The one thing
that keeps two workers apart is that a file is created by one of them alone; a storage that cannot promise that is
refused before anything is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_audience.core.exceptions import AudienceError, WarehouseRefused, WarehouseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

EXCLUSIVE: Mapping[str, Mapping[str, Any]] = {
    "file": {},
    "s3": {"mode": "create"},
    "gs": {"mode": "create"},
    "abfs": {"overwrite": False},
}
"""By protocol, how the storage itself is asked to refuse a file that is there."""


_DRAFT = "."
"""What the name of a file begins with that is being written; it counts for nothing."""


class ObjectStorage:
    """Files below an address.

    :param fs: fsspec's file system.
    :param root: path in it, without the protocol.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self._fs = fs
        self._root = root.rstrip("/")
        names = [fs.protocol] if isinstance(fs.protocol, str) else fs.protocol
        self.protocol = next((name for name in names if name in EXCLUSIVE), "")
        if not self.protocol:
            raise ValueError(
                f"state_path is on {'/'.join(names)}, which cannot create a file only if it does not exist; "
                f"expected one of {', '.join(EXCLUSIVE)}"
            )

    @property
    def is_local(self) -> bool:
        """Whether the files are on a disk of this machine."""
        return self.protocol == "file"

    @property
    def file_system(self) -> Any:
        """fsspec's file system, for others that read by it."""
        return self._fs

    def address(self, name: str) -> str:
        """Give a file's path, with the protocol where it is not on a disk."""
        path = f"{self._root}/{name}"
        return path if self.is_local else f"{self.protocol}://{path}"

    def create(self, name: str, content: bytes) -> None:
        """Create a file.

        :raises FileExistsError: if it is there already.
        """
        with self._translated():
            if self.is_local:
                _create_on_disk(Path(self.address(name)), content)
            else:
                self._fs.pipe_file(f"{self._root}/{name}", content, **EXCLUSIVE[self.protocol])
                self._fs.invalidate_cache()

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whose content is the same whoever writes it."""
        with self._translated():
            if self.is_local:
                _replace_on_disk(Path(self.address(name)), content)
            else:
                self._fs.pipe_file(f"{self._root}/{name}", content)

    def make_directory(self, name: str) -> None:
        """Make the directory of a file, where there are directories."""
        if self.is_local:
            with self._translated():
                _make_directory(Path(self.address(name)).parent)

    def persist(self, name: str) -> None:
        """Have the disk keep a file that another library has written; a storage that is far has done so."""
        if self.is_local:
            with self._translated():
                _persist(Path(self.address(name)))
                _persist(Path(self.address(name)).parent)

    def find(self, directory: str) -> list[str]:
        """List the names of the files and directories in a directory, drafts left out; none if it is missing."""
        with self._translated():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(f"{self._root}/{directory}", detail=False)
            except FileNotFoundError:
                return []
        names = (str(path).rstrip("/").rpartition("/")[2] for path in found)
        return sorted(name for name in names if not name.startswith(_DRAFT))

    def read(self, names: Sequence[str]) -> Iterable[bytes]:
        """Read files whole, several at a time where the storage is far."""
        if not names:
            return []
        with self._translated():
            paths = [f"{self._root}/{name}" for name in names]
            found = self._fs.cat(paths)
        by_end = {str(path).removeprefix("/"): content for path, content in found.items()}
        return [by_end[path.removeprefix("/")] for path in paths]

    def read_if_there(self, name: str) -> bytes | None:
        """Read a file whole; none if there is none."""
        with self._translated():
            try:
                found: bytes = self._fs.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return found

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def check(self) -> None:
        """Make sure that of two who create a file one is refused.

        :raises WarehouseRefused: if not; a retry does not help.
        """
        name = f"probe-{uuid.uuid4().hex}"
        self.make_directory(name)
        self.create(name, b"1")
        try:
            self.create(name, b"2")
        except FileExistsError:
            return
        finally:
            self.remove(name)
        raise WarehouseRefused(
            f"the storage of state_path ({self.protocol}) created a file that already existed, so two "
            "simultaneous runs could overwrite each other; use a newer version of its fsspec package, or another "
            "storage"
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (AudienceError, FileExistsError):
            raise
        except PermissionError:
            raise WarehouseRefused(
                f"the storage of state_path ({self.protocol}) denies access; the login needs permission to list, "
                "read, write and delete files"
            ) from None
        except OSError as error:
            if "PreconditionFailed" in str(error):
                raise FileExistsError from None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise WarehouseUnavailable(
                    f"the storage of state_path ({self.protocol}) is full; free some space and clear this task"
                ) from None
            raise WarehouseUnavailable(
                f"the storage of state_path ({self.protocol}) failed with {type(error).__name__}; check its "
                "address and connection"
            ) from None


def _create_on_disk(target: Path, content: bytes) -> None:
    with _draft(target, content) as draft:
        # A link is made or refused, and what it names is whole: a file that is opened may be read half written.
        os.link(draft, target)
        _persist(target.parent)


def _replace_on_disk(target: Path, content: bytes) -> None:
    with _draft(target, content) as draft:
        draft.replace(target)
        _persist(target.parent)


@contextlib.contextmanager
def _draft(target: Path, content: bytes) -> Iterator[Path]:
    """Write what a file is to hold beside it, down to the disk; what is left of it goes, whatever happens."""
    draft = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
    try:
        draft.write_bytes(content)
        _persist(draft)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _make_directory(directory: Path) -> None:
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _persist(made.parent)


def _persist(path: Path) -> None:
    """Wait until the disk has a file, or the names in a directory, where the system can say so."""
    if path.is_dir() and os.name == "nt":
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
