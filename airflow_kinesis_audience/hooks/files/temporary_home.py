"""A directory of one task for rows that it works on, which does not outlive the task.

It is removed when the task ends. A task that is killed removes nothing, so whoever starts next on that machine
removes what is left: a directory whose lock nobody holds. The system drops a lock with its process. One without a
lock is being made at this moment, or its maker was killed then: its age tells.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_PREFIX = "audience-state-"
_LOCK = "lock"
_BEING_MADE_SECONDS = 600.0


class TemporaryHome:
    """A new directory, readable by its owner alone; those that killed tasks have left are removed first.

    :ivar path: the directory.
    """

    def __init__(self) -> None:
        _remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _hold(self.path)

    def remove(self) -> None:
        """Remove the directory and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Another user's cannot be opened.
        with contextlib.suppress(OSError):
            made_long_ago = time.time() - path.stat().st_mtime > _BEING_MADE_SECONDS
            if ((path / _LOCK).exists() or made_long_ago) and (lock := _hold(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _hold(path: Path) -> int | None:
    """Lock a directory; none if another process holds it."""
    if sys.platform == "win32":
        return None  # there, files stay until the system clears its temporary directory
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
