"""Links between pages, and to files of the repository, lead somewhere; every page is in a list of contents."""

from __future__ import annotations

import re
from pathlib import Path

import page_blocks
import pytest

LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
DOC = re.compile(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`")
TOC = re.compile(r"^```\{toctree\}\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = page_blocks.pages()


def text_of(page: str) -> str:
    """The page without its blocks of code."""
    return page_blocks.BLOCK.sub("", (page_blocks.ROOT / page).read_text())


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    folder = (page_blocks.ROOT / page).parent
    for link in LINK.findall(text_of(page)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (folder / file).resolve() if file else page_blocks.ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page}: {link}"
    for name in DOC.findall(text_of(page)):
        assert any((folder / f"{name}{suffix}").exists() for suffix in (".md", ".rst")), f"{page}: {name}"


def test_every_page_is_in_a_list_of_contents() -> None:
    found = {"docs/index.md"}
    for page in PAGES:
        folder = Path(page).parent
        for entries in TOC.findall((page_blocks.ROOT / page).read_text()):
            found |= {str(folder / f"{entry}.md") for entry in entries.split() if not entry.startswith(":")}
    assert set(PAGES) - {"README.md"} <= found


@pytest.mark.parametrize("picture", sorted((page_blocks.DOCS / "images").rglob("*.*")), ids=lambda path: path.name)
def test_pictures_are_small_and_used(picture: Path) -> None:
    assert picture.stat().st_size <= 60_000
    assert any(picture.name in text_of(page) for page in PAGES)
