"""Settings that contradict each other stop the service's start."""

import pytest

from service.__main__ import main
from service.settings import Settings


def test_the_largest_picture_must_fit_into_its_processes_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFILM_PICTURE_PIXELS", str(100_000_000))
    monkeypatch.setattr("sys.argv", ["service"])
    assert main() == 2
    assert "REFILM_PICTURE_MEMORY_BYTES must be at least 2400000000" in capsys.readouterr().err
    monkeypatch.setenv("REFILM_PICTURE_MEMORY_BYTES", str(2_400_000_000))
    assert Settings().picture_memory_bytes == 2_400_000_000


def test_an_empty_number_of_picture_processes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFILM_PICTURE_PROCESSES", "")
    assert Settings().picture_processes is None
