"""The code blocks of README.md and docs/: which there are, and what each shows as its output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file, from the root of the repository.
        line: of its first line of code, from 1 on.
        language: behind the fence.
        text: what is in it.
        output: of Python, what the page shows that it prints: the block of text that follows at once; None: there is
            none.
    """

    page: str
    line: int
    language: str
    text: str
    output: str | None = None

    @property
    def id(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md and all pages of docs/, from the root of the repository."""
    found = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in found)]


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """The blocks of a page, in order. What a block of Python prints is a part of it, not a block of its own."""
    text = (ROOT / page).read_text()
    found: list[Block] = []
    end = -1
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        if language == "text" and found and found[-1].language == "python" and not text[end : match.start()].strip():
            before = found.pop()
            found.append(Block(page, before.line, "python", before.text, code))
        else:
            found.append(Block(page, text.count("\n", 0, match.start(2)) + 1, language, code))
        end = match.end()
    return tuple(found)


def python(page: str) -> list[Block]:
    """Its blocks of Python."""
    return [block for block in blocks(page) if block.language == "python"]
