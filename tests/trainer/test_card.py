"""What a model's card says of where it comes from."""

import subprocess
from pathlib import Path

import pytest

from trainer import card
from trainer.card import _git as git

CHECKOUT = Path(card.__file__).parent


@pytest.mark.parametrize(("changes", "end"), [("", ""), (" M trainer/card.py", "+")])
def test_a_revision_says_whether_files_were_changed_since(
    monkeypatch: pytest.MonkeyPatch, changes: str, end: str
) -> None:
    answers = {"rev-parse": "12ab", "status": changes}
    monkeypatch.setattr(card, "_git", lambda folder, command, *_: answers[command])
    assert card.git_revision() == "12ab" + end


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.TimeoutExpired("git", 10)])
def test_without_git_there_is_no_revision(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(card, "_git", fail)
    assert card.git_revision() == ""


@pytest.mark.process
def test_git_is_asked_where_the_trainer_lies() -> None:
    assert git(CHECKOUT, "rev-parse", "--show-prefix") == "trainer/"
