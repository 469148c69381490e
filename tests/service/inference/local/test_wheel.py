"""Where the wheel's Triton lies, and what it is started with."""

import os
from pathlib import Path

import pytest

from service.inference.local.wheel import (
    LocalTritonError,
    Wheel,
    address,
    command,
    environment,
    find_wheel,
)

WHEEL = Wheel(Path("/wheel/tritonserver"), Path("/wheel/libraries"))


def test_a_missing_wheel_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LocalTritonError, match=r"pip install --no-deps nvidia-pytriton==0\.7\.0"):
        find_wheel()


def test_it_is_addressed_where_it_is_reported_to_listen() -> None:
    options = command(WHEEL, Path("/folder"), [], "prefix_")
    (where,) = [option for option in options if option.startswith("--grpc-address=")]
    (port,) = [option for option in options if option.startswith("--grpc-port=")]
    assert address(Path("/folder")) == f"{where.partition('=')[2]}:{port.partition('=')[2]}"
    assert where.startswith("--grpc-address=unix:/folder/")


def test_a_path_too_long_for_a_socket_is_named() -> None:
    longest = Path("/" + "d" * 94)
    assert len(address(longest).removeprefix("unix:")) == 107
    for refused in (address, lambda folder: command(WHEEL, folder, [], "prefix_")):
        with pytest.raises(LocalTritonError, match=" 1 bytes too long; set TMPDIR"):
            refused(Path(f"{longest}d"))


def test_its_environment_holds_what_it_needs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    for name in ("REFILM_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "kept")
    assert set(environment(WHEEL)) == {"PATH", "LD_LIBRARY_PATH"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("TMPDIR", "/large")
    told = environment(WHEEL)
    assert (told["CUDA_VISIBLE_DEVICES"], told["TMPDIR"]) == ("1", "/large")
    assert told["PATH"].endswith(":" + os.environ["PATH"])
