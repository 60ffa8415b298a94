"""The pages as the tests see them: code blocks by language, and rows of tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


@dataclass(frozen=True)
class Block:
    """A code block.

    :ivar number: which of its language on the page, from 0.
    """

    page: str
    language: str
    number: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.language}:{self.number}"


def blocks(language: str, page: str | None = None) -> list[Block]:
    """Return the code blocks of a language, of all pages or of one."""
    found = []
    for name in PAGES if page is None else (page,):
        texts = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
        found += [Block(name, language, number, text) for number, text in enumerate(texts)]
    return found


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of a table by the beginning of its head, without marks of code around a whole cell."""
    text = (ROOT / page).read_text().partition(head)[2].partition("\n\n")[0]
    lines = [line for line in text.splitlines()[2:] if line.startswith("|")]
    return [[re.sub(r"^`([^`]*)`$", r"\1", c.strip()) for c in re.split(r"(?<!\\)\|", r)[1:-1]] for r in lines]
