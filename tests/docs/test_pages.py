"""Every block of README.md and docs/ runs as it stands, apart from the names of a site.

The pages about Slurm and about the service have files of their own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import page_blocks
import page_list
import pytest
from page_blocks import Block

README = page_blocks.python("README.md")
LESSONS = [page for page in page_list.LESSONS if page not in page_list.ON_SLURM]
TABLES = [block for page in page_blocks.pages() for block in page_blocks.blocks(page) if block.language == "toml"]
#: Names of a site, and what stands for them here.
STANDS_FOR = {"ibm:ibm_fez?mode=session": "fake:manila"}

RunPage = Callable[..., str]
Ran = Callable[[list[Block]], None]


@pytest.mark.parametrize("block", README, ids=lambda block: f"block {README.index(block) + 1}")
def test_readme(block: Block, run_block: Callable[[Block], str]) -> None:
    assert run_block(block)


@pytest.mark.parametrize("page", page_list.HERE)
def test_page(page: str, run_page: RunPage) -> None:
    run_page(page, before=page_list.HERE[page], changes=STANDS_FOR)


@pytest.mark.parametrize("page", LESSONS, ids=lambda page: Path(page).stem)
def test_lesson(page: str, run_page: RunPage) -> None:
    assert run_page(page)


@pytest.mark.parametrize("block", TABLES, ids=lambda block: block.id)
def test_toml(block: Block, ran: Ran) -> None:
    assert tomllib.loads(block.text)
    ran([block])


def test_every_block_is_run_by_a_test() -> None:
    pages = {*page_list.HERE, *page_list.LESSONS, *page_list.ON_SLURM, *page_list.WITH_A_SERVICE, "README.md"}
    for page in page_blocks.pages():
        for block in page_blocks.blocks(page):
            assert block.language in ("python", "sh", "toml", "text"), f"{block.id}: no test runs {block.language}"
            assert block.language != "python" or page in pages, f"{block.id}: name its page in page_list.py"
            assert block.language != "sh" or page in page_list.WITH_A_SERVICE, f"{block.id}: no test runs it"
