"""Words that must never leave a warehouse or a connection but by the stream, planted by all tests of whole DAGs.

Every e-mail address that a test puts into a source is one, and so is the secret of the connection to AWS. When the
last test is over all that Airflow has written is searched for them: what was printed, with its exceptions and
tracebacks, the tasks' log files, and the metadata database, with XComs, rendered templates and asset events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

SECRET = "canary-of-a-secret-key-9f2c"

_planted: set[str] = {SECRET}


def plant(words: Iterable[str | None]) -> None:
    """Remember what is searched for: texts that are found nowhere by chance."""
    _planted.update(word for word in words if word and "@" in word and len(word) > len("a@x.example"))


def find_planted(home: Path, output: str) -> list[str]:
    """List where a word is, with what stands around it, the word itself left out."""
    places = {str(path): path.read_text(errors="replace") for path in (home / "logs").rglob("*.log")}
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True) as metadata:
        places["metadata database"] = "\n".join(metadata.iterdump())
    places["output"] = output
    found = []
    for place, text in places.items():
        for word in sorted(_planted):
            at = text.find(word)
            if at >= 0:
                around = text[max(0, at - 300) : at + 200].replace(word, f"[canary {word[:3]}…]")
                found.append(f"{place}: …{around}…")
    return found


def assert_unseen(home: Path, output: str) -> None:
    """Look for every word in all that was written."""
    found = find_planted(home, output)
    assert not found, f"{len(found)} canaries were seen:\n" + "\n".join(found[:10])
