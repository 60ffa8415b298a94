"""What mkdocs does to each page of the site beyond its own settings; named in mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

_ERRORS = "troubleshooting.md"
_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    r"""Show ``\|`` in a cell as a pipe: Markdown's tables need the backslash, and GitHub hides it as well."""
    return _CELL.sub(lambda cell: cell[0].replace("\\|", "|"), html)


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Rank the page of errors first: a pasted message is longer than what other pages share with it."""
    if page.file.src_uri == _ERRORS:
        page.meta["search"] = {"boost": 8}
    return markdown
