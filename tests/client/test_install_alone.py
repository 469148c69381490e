"""The client distribution works alone: an empty environment, its wheel, and a running service."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.service_process import ServiceProcess

ROOT = Path(__file__).parents[2]

# Runs in the empty environment.
CALLER = """
import array, importlib.metadata, importlib.util, json, sys
import refilm, refilm.aio
address, picture, film, out, latents = sys.argv[1:]
with refilm.Client(address) as client:
    encoding = client.encode(picture, embedding=True)
    decoded = client.decode(encoding.latent, model=encoding.model)
    stream = list(client.encode_stream([picture, open(picture, "rb").read()]))
    batches = [
        event
        for event in client.reconstruct_stream(film, latents=True)
        if isinstance(event, refilm.LatentBatch)
    ]
    result = client.reconstruct(film, out, latents=latents)
    try:
        decoded.pixels
        missing = ""
    except ImportError as error:
        missing = error.name
    print(json.dumps({
        "installed": sorted(d.metadata["Name"] for d in importlib.metadata.distributions()),
        "latent": list(encoding.latent),
        "kind": type(encoding.latent).__name__,
        "same": stream[0].model == encoding.model and encoding == encoding,
        "bytes": len(decoded.data),
        "missing": missing,
        "batches": sum(len(batch.latents) for batch in batches),
        "frames": result.frames,
        "health": client.health("refilm.v1.AutoencoderService"),
    }))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds nothing but the client."""
    folder = tmp_path_factory.mktemp("alone")
    # A copy: what an earlier build left behind in the checkout would get into the wheel.
    source = shutil.copytree(
        ROOT / "client", folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    options = ["-q", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder, source], check=True)
    (wheel,) = folder.glob("refilm-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.startswith(("tools", "tests"))]
        assert "refilm/py.typed" in archive.namelist()
    quietly = ["-q", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quietly, wheel], check=True)
    return python


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(np.full((90, 160, 3), 200, np.uint8)).save(path)
    return path


def environment(**more: str) -> dict[str, str]:
    # Nothing of this checkout may be found by accident.
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | more


def test_the_client_alone_calls_the_service(
    service: ServiceProcess, python: Path, picture: Path, small_film: Path, tmp_path: Path
) -> None:
    out, latents = tmp_path / "out.mp4", tmp_path / "latents.npz"
    done = subprocess.run(
        [python, "-c", CALLER, service.address, picture, small_film, out, latents],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"refilm", "grpcio", "grpcio-status", "protobuf"} <= set(told["installed"])
    assert not {"numpy", "rich"} & set(told["installed"])
    assert (len(told["latent"]), told["kind"]) == (200, "array")
    assert told["same"]
    assert (told["bytes"], told["missing"]) == (144 * 256 * 3, "numpy")
    assert (told["frames"], told["batches"], told["health"]) == (24, 24, "SERVING")
    assert np.load(latents)["latents"].shape == (24, 200)
    assert out.stat().st_size > 1000


def test_its_command_needs_no_rich(
    service: ServiceProcess, python: Path, small_film: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [python.with_name("refilm"), "reconstruct", small_film, "-o", "out.mp4"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(REFILM_ADDRESS=service.address),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("out.mp4: 24 frames, 0:01, 256 x 144, ")
    assert done.stdout == ""
