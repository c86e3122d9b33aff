"""`pilot serve --check`, `pilot token`, and the tokens that `--server` is used with, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot.cli import main as cli


@pytest.mark.parametrize("days", ["0", "-1", "nan", "1e300"])
def test_days_that_have_no_date(days: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"sqlite:///{tmp_path}/service.db"
    assert cli.main(["token", "new", "--user", "zoe", "--days", days, "--store", store]) == 2
    assert f"--days: {days} is not valid; expected a number above 0, at most 36500" in capsys.readouterr().err.replace(
        "e+", "e"
    )


def test_a_policy_is_checked_wherever_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["serve", "--check", "--policy", "fcfss"], ["simulate", "--jobs", "1", "--policy", "fcfss"]):
        assert cli.main(words) == 2
        assert "no policy 'fcfss' (did you mean 'fcfs'?)" in capsys.readouterr().err


def test_a_store_without_tokens_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"sqlite:///{tmp_path}/service.db"
    assert cli.main(["token", "list", "--store", store]) == 0
    assert "there are no tokens in this store" in capsys.readouterr().err
    assert cli.main(["token", "new", "--user", "zoe", "--days", "36500", "--store", store]) == 0
    assert cli.main(["token", "list", "--store", store]) == 0
    assert "  zoe  user  made 20" in capsys.readouterr().out


def test_a_token_file_without_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").touch()
    words = ["task", "status", "0" * 32, "--server", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")]
    assert cli.main(words) == 2
    assert "token is empty; expected a token" in capsys.readouterr().err
