"""A directory of one task for rows that it works on, which does not outlive the task.

It is removed when the task ends. A task that is killed removes nothing, so whoever starts next on that machine
removes what is left: a directory whose lock nobody holds. The system drops a lock with its process. A directory
gets its name when it is locked; before that it is hidden, and goes when it is so old that its maker was killed.
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
_HIDDEN = "."
_LOCK = "lock"
_BEING_MADE_SECONDS = 600.0


class TemporaryHome:
    """A new directory, readable by its owner alone; those that killed tasks have left are removed first.

    :ivar path: the directory.
    """

    def __init__(self) -> None:
        _remove_abandoned()
        hidden = Path(tempfile.mkdtemp(prefix=_HIDDEN + _PREFIX))
        self._lock = _hold(hidden)
        self.path = hidden.rename(hidden.with_name(hidden.name.removeprefix(_HIDDEN)))

    def remove(self) -> None:
        """Remove the directory and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _remove_abandoned() -> None:
    here, made_long_ago = Path(tempfile.gettempdir()), time.time() - _BEING_MADE_SECONDS
    for path in [*here.glob(f"{_PREFIX}*"), *here.glob(f"{_HIDDEN}{_PREFIX}*")]:
        # Another user's cannot be opened.
        with contextlib.suppress(OSError):
            being_made = path.name.startswith(_HIDDEN) and path.stat().st_mtime > made_long_ago
            if not being_made and (lock := _hold(path)) is not None:
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
