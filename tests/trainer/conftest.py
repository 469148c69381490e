"""What the trainer's tests share."""

from collections.abc import Iterator

import pytest

from trainer import card


@pytest.fixture(scope="session", autouse=True)
def one_revision() -> Iterator[None]:
    """Models are of the same revision always, and no process is started to ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(card, "_git", lambda *_: "0" * 40)
        yield
