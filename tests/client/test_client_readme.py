"""What the client's README shows works, as it stands there, against the real service."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import refilm
from PIL import Image
from refilm.cli._arguments import parser

from tests.film.clips import make_clip
from tests.support.service_process import ServiceProcess

README = (Path(refilm.__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a film and a picture of its own."""
    # Long enough for the moments that the examples name.
    make_clip(tmp_path / "film.mp4", frames=60)
    Image.fromarray(np.full((90, 160, 3), 128, np.uint8)).save(tmp_path / "picture.jpg")
    return tmp_path


def test_the_python_examples_work(folder: Path, service: ServiceProcess) -> None:
    examples = [text for language, text in BLOCKS if language == "python"]
    assert len(examples) == 3
    for example in examples:
        script = folder / "example.py"
        script.write_text(example.replace("127.0.0.1:50051", service.address))
        done = subprocess.run(
            [sys.executable, script], cwd=folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{example}\n{done.stderr}"
    with refilm.Client(service.address) as client:
        # Others test on this service as well.
        for film in client.films(filter='title:"My Film"'):
            client.delete_film(film)
    made = {path.name for path in folder.iterdir()}
    assert {
        "film.side_by_side.mp4",
        "latents.npy",
        "source.mp4",
        "poster.jpg",
        "between-7.jpg",
    } <= made
    assert (folder / "source.mp4").read_bytes() == (folder / "film.mp4").read_bytes()
    assert np.load(folder / "latents.npy").shape == (60, 200)


def test_the_commands_are_understood() -> None:
    (commands,) = (text for language, text in BLOCKS if language == "sh")
    lines = [shlex.split(line, comments=True) for line in commands.splitlines() if line]
    assert {line[1] for line in lines} >= {"upload", "search", "reconstructions", "latents"}
    for name, *words in lines:
        assert name == "refilm"
        parser().parse_args(words)
