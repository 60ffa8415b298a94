"""What mkdocs does to each page of the site beyond its own settings; named in mkdocs.yml."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_MESSAGE = re.compile(r"<tr>\s*<td>((?:(?!</td>).)*<code>.*?)</td>(.*?)</tr>", re.DOTALL)
_BOOSTS = {"troubleshooting.html": 5.2, "messages.html": 2.4}
"""The pages of messages: each message is a result of its own, first of all one that the first page explains."""
_WORDS = {
    "aws.html": "iam policy permission credentials region_name",
    "backfill.html": "backfill catchup on_covered",
    "concepts.html": "baseline cursor dead letter",
    "events.html": "EventsToKinesisOperator arrival_margin",
    "guards.html": "let_through max_exit_ratio max_exits on_empty on_invalid_rows on_schema_change guards",
    "identities.html": "hash_identities hashed_identities",
    "lookback.html": "resync find_user deletion",
    "monitoring.html": "metrics notifier",
    "operators.html": "on_first_run",
    "read-only.html": "state_path",
    "runs.html": "schedule manual",
    "sizing.html": "partitions aggregate shards throttling",
    "start.html": "quick",
    "state.html": "state_schema keep_history keep_history grants adopt_state_of on_other_sync",
}
"""By page, the words that readers look for it by, and that other pages have as often."""
_messages: dict[str, list[dict[str, Any]]] = {}


def on_page_content(html: str, page: Any, **_: object) -> str:
    r"""Show ``\|`` in a cell as a pipe, and make each message of an error a place of its own.

    Markdown's tables need the backslash, and GitHub hides it as well.
    """
    html = _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)
    if page.url not in _BOOSTS:
        return html
    found = _messages[page.url] = []

    def mark(row: re.Match[str]) -> str:
        place = f"error-{len(found) + 1}"
        found.append(
            {
                "location": f"{page.url}#{place}",
                "title": _text(row[1]),
                "text": _text(row[2]),
                "boost": _BOOSTS[page.url],
            }
        )
        return row[0].replace("<tr>", f'<tr id="{place}">', 1)

    return _MESSAGE.sub(mark, html)


@event_priority(-100)
def on_post_build(config: Any, **_: object) -> None:
    """Have the search find a message by itself, not among all of its section, and a page by its words."""
    path = Path(config["site_dir"]) / "search" / "search_index.json"
    index = json.loads(path.read_text())
    docs = []
    for doc in index["docs"]:
        page, _, section = doc["location"].partition("#")
        if page in _BOOSTS and section and any(f"{m['title']}" in _text(doc["text"]) for m in _messages[page]):
            doc["text"] = ""
        if page in _WORDS and not section:
            doc["tags"] = _WORDS[page].split()
        docs.append(doc)
    index["docs"] = docs + [message for messages in _messages.values() for message in messages]
    path.write_text(json.dumps(index, ensure_ascii=False, separators=(",", ":")))


def _text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
