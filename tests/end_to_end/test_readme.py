"""What the README tells people to type works, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.film.clips import Track, make_clip
from tests.support.service_process import ServiceProcess

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
COMMANDS = [
    line.split("#")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a film and a picture, and the virtual environment where it is said to be."""
    make_clip(tmp_path / "film.mp4", frames=60, sound=[Track()])
    Image.fromarray(np.full((90, 160, 3), 128, np.uint8)).save(tmp_path / "picture.jpg")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for name in ("client", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "clip.mp4").symlink_to(ROOT / "examples/films/big_buck_bunny_60s.mp4")
    return tmp_path


def run(command: str, folder: Path, address: str = "") -> None:
    environment = os.environ | {"REFILM_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def frames_of(path: Path) -> int:
    with av.open(str(path), "r") as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_commands_of_the_client_work(folder: Path, service: ServiceProcess) -> None:
    commands = [command for command in COMMANDS if command.startswith(".venv/bin/refilm")]
    assert len(commands) == 8
    for command in commands:
        run(command, folder, service.address)
    assert frames_of(folder / "reconstruction.mp4") == 60
    assert frames_of(folder / "bunny.mp4") == 1440
    assert frames_of(folder / "between.mp4") == 48
    assert np.load(folder / "bunny.npy").shape == (1440, 200)
    assert Image.open(folder / "hits.png").width > 256
    run(".venv/bin/refilm delete films/bunny", folder, service.address)


def test_the_python_example_works(folder: Path, service: ServiceProcess) -> None:
    (example,) = (text for language, text in BLOCKS if language == "python")
    script = folder / "example.py"
    script.write_text(example.replace("127.0.0.1:50051", service.address))
    run(f"{sys.executable} example.py", folder)
    assert frames_of(folder / "reconstruction.mp4") == 60


def test_the_trainer_s_commands_make_a_model(folder: Path) -> None:
    commands = [command for command in COMMANDS if "-m trainer" in command]
    assert [command.split()[3] for command in commands] == [
        "prepare",
        "train",
        "evaluate",
        "publish",
    ]
    for command in commands:
        run(command, folder)
    for half in ("encoder", "decoder"):
        assert (folder / f".refilm/models/mine_{half}/1/model.pt").is_file()
    assert (folder / "run" / "evaluation" / "contact_sheet.png").is_file()


def test_every_file_the_readme_links_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
