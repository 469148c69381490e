"""The command `refilm` as a person or a script meets it, against the real service."""

import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from tests.support.service_process import ServiceProcess

REFILM = [sys.executable, "-m", "refilm"]


class Refilm:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.environment = os.environ | {"REFILM_ADDRESS": address}

    def __call__(
        self, *arguments: str | Path, stdin: bytes | None = b""
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*REFILM, *arguments],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=120,
        )

    def fails(self, code: int, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Run it, and return its one line of error."""
        done = self(*arguments, stdin=stdin)
        error = done.stderr.decode()
        assert done.returncode == code, error
        assert re.fullmatch(r"refilm: [^\n]*\n", error), error
        return error.removeprefix("refilm: ").rstrip()

    def works(self, *arguments: str | Path, stdin: bytes = b"") -> bytes:
        """Run it, and return its standard output."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start it, with pipes that stay open, and as at a terminal: to be interrupted."""
        return subprocess.Popen(
            [*REFILM, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What runs in the background of a shell inherits that SIGINT is ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def names(self) -> set[str]:
        """What lies in the folder."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def refilm(service: ServiceProcess, tmp_path: Path) -> Refilm:
    return Refilm(tmp_path, service.address)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "dark.png", tmp_path / "bright.jpg"]
    for path, grey in zip(paths, (40, 210), strict=True):
        Image.fromarray(np.full((90, 160, 3), grey, np.uint8)).save(path)
    return paths


def test_models_and_health(refilm: Refilm) -> None:
    lines = refilm.works("models").decode().splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "RECIPE", "DIGEST"]
    assert [line.split()[:3] for line in lines[1:]] == [["pca", "1", "pca"], ["pca", "2", "pca"]]
    assert "latest" in lines[2] and "latest" not in lines[1]

    (model,) = (json.loads(line) for line in refilm.works("models", "--json").splitlines())
    assert (model["name"], model["latest_version"]) == ("pca", 2)
    assert model["versions"][1]["card"]["metrics"]["psnr"] == 22.0

    assert refilm.works("health").decode().splitlines() == [
        "overall: SERVING",
        "refilm.v1.AutoencoderService: SERVING",
    ]
    assert json.loads(refilm.works("health", "--json"))["overall"] == "SERVING"


def test_reconstruct_names_its_output_after_the_film(refilm: Refilm, small_film: Path) -> None:
    film = refilm.folder / "holiday.mp4"
    film.write_bytes(small_film.read_bytes())
    done = refilm("reconstruct", "holiday.mp4", "--latents", "l.npz")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"holiday\.reconstruction\.mp4: 24 frames, 0:01, 256 x 144, [\d.]+ kB; sound: none; "
        r"pca v2; took \d+:\d\d \(\d+ frames/s\)\n",
        done.stderr.decode(),
    )
    assert refilm.names() == {"holiday.mp4", "holiday.reconstruction.mp4", "l.npz"}
    assert np.load(refilm.folder / "l.npz")["latents"].shape == (24, 200)


def test_reconstruct_from_pipe_to_pipe(refilm: Refilm, small_film: Path) -> None:
    out = refilm.works("reconstruct", "-", "--model", "pca", stdin=small_film.read_bytes())
    assert out[4:8] == b"ftyp"
    assert refilm.names() == set()


def test_reconstruct_tells_programs_in_json(refilm: Refilm, small_film: Path) -> None:
    shown = refilm.works(
        "reconstruct",
        small_film,
        "-o",
        "out.mp4",
        "--json",
        *("--version", "1", "--layout", "side_by_side", "--quality", "draft", "--no-sound"),
    )
    *progress, last = (json.loads(line) for line in shown.splitlines())
    assert all(line["event"] == "progress" for line in progress)
    assert progress[-1]["fraction"] == 1.0
    assert (last["event"], last["output"], last["frames"]) == ("reconstruction", "out.mp4", 24)
    assert (last["model"]["version"], last["output_facts"]["width"]) == (1, 512)
    assert last["bytes_sent"] == (refilm.folder / "out.mp4").stat().st_size


def test_a_terminal_gets_a_bar_that_ends_without_a_trace(refilm: Refilm, small_film: Path) -> None:
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*REFILM, "reconstruct", small_film, "-o", "out.mp4"],
        cwd=refilm.folder,
        env=refilm.environment | {"COLUMNS": "100", "TERM": "xterm"},
        stderr=other_end,
    )
    os.close(other_end)
    shown = b""
    try:
        while data := os.read(terminal, 4096):
            shown += data
    except OSError:
        pass  # How a terminal says that nobody is left on its other end.
    os.close(terminal)
    assert process.wait(60) == 0
    text = shown.decode()
    size = f"{small_film.stat().st_size / 1000:.1f} kB"
    assert f"of {size}" in text
    assert "out.mp4: 24 frames" in text.splitlines()[-1]


def test_encode_prints_saves_and_decodes_again(refilm: Refilm, pictures: list[Path]) -> None:
    first, second = refilm.works("encode", *pictures).decode().splitlines()
    assert first.startswith(f"{pictures[0]}  pca v2  ")
    assert second.startswith(f"{pictures[1]}  pca v2  ")

    lines = refilm.works("encode", *pictures, "--json", "--embedding", "--version", "1")
    answers = [json.loads(line) for line in lines.splitlines()]
    assert [answer["picture"] for answer in answers] == [str(path) for path in pictures]
    assert [len(answer["latent"]) for answer in answers] == [200, 200]
    assert np.linalg.norm(answers[0]["embedding"]) == pytest.approx(1, abs=1e-5)

    # Version 1 made them, so version 1 decodes them although 2 is the latest.
    shown = refilm.works("decode", "-", "-o", "again-%02d.png", stdin=lines)
    assert shown.decode().splitlines() == ["again-00.png  pca v1", "again-01.png  pca v1"]
    greys = [np.asarray(Image.open(refilm.folder / f"again-0{i}.png")).mean() for i in (0, 1)]
    assert greys == pytest.approx([40, 210], abs=3)

    refilm.works("encode", *pictures, "-o", "two.npz", "--version", "1")
    shown = refilm.works("decode", "two.npz", "-o", "%d.jpg")
    assert shown.decode().splitlines() == ["0.jpg  pca v1", "1.jpg  pca v1"]
    refilm.works("encode", *pictures, "-o", "two.npy")
    assert np.load(refilm.folder / "two.npy").shape == (2, 200)


def test_encode_and_decode_through_pipes(refilm: Refilm, pictures: list[Path]) -> None:
    lines = refilm.works("encode", "-", "--json", stdin=pictures[1].read_bytes())
    picture = refilm.works("decode", "-", "-o", "-", stdin=lines)
    assert picture.startswith(b"\x89PNG")


def test_faulty_input_is_one_line_that_names_it(refilm: Refilm, pictures: list[Path]) -> None:
    text = refilm.folder / "notes.txt"
    text.write_text("no picture, no film, no latents")
    assert refilm.fails(1, "encode", "missing.png") == "missing.png: No such file or directory"
    assert refilm.fails(1, "reconstruct", "missing.mp4").startswith("missing.mp4: No such file")
    assert refilm.fails(1, "encode", pictures[0], text).startswith(f"{text}: the bytes are no")
    assert refilm.fails(1, "reconstruct", text).startswith(f"{text}: no film can be read")
    assert "line 1 is neither" in refilm.fails(1, "decode", text, "-o", "x.png")
    assert '"dream"' in refilm.fails(1, "encode", pictures[0], "--model", "dream")
    assert "no version 9" in refilm.fails(1, "encode", pictures[0], "--version", "9")
    assert refilm.names() == {"notes.txt", "dark.png", "bright.jpg"}


def test_a_latent_of_the_wrong_length_is_refused(refilm: Refilm) -> None:
    assert "200" in refilm.fails(1, "decode", "-", "-o", "x.png", stdin=b"[1, 2, 3]")
    assert refilm.names() == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "a.png", "--json", "-o", "l.npy"), "give one of the two"),
        (("encode", "a.png", "--embedding"), "--embedding goes with --json"),
        (("reconstruct", "a.mp4", "-o", "-", "--json"), "both want the standard output"),
        (("decode", "-", "-o", "x.bmp"), "not as .bmp"),
        (("decode", "two.jsonl", "-o", "x.png"), "holds 2 latents: give -o a number field"),
    ],
)
def test_options_that_do_not_fit_are_a_usage_error(
    refilm: Refilm, arguments: tuple[str, ...], words: str
) -> None:
    (refilm.folder / "two.jsonl").write_text("[1.0]\n[2.0]\n")
    assert words in refilm.fails(2, *arguments, stdin=b"[1.0]")


def test_argparse_explains_unknown_words(refilm: Refilm) -> None:
    done = refilm("reconstruct", "a.mp4", "--size", "huge")
    assert done.returncode == 2
    assert b"invalid choice: 'huge'" in done.stderr
    done = refilm("reconstruct", "a.mp4", "--version", "0")
    assert done.returncode == 2
    assert b"versions count from 1, not 0" in done.stderr


def test_nobody_there_may_succeed_later(refilm: Refilm) -> None:
    refilm.environment["REFILM_ADDRESS"] = "127.0.0.1:1"
    assert "the service at 127.0.0.1:1 cannot be reached" in refilm.fails(3, "models")
    assert "127.0.0.1:2" in refilm.fails(3, "health", "--address", "127.0.0.1:2")


def test_a_film_that_is_truncated_is_kept_as_far_as_it_goes(
    refilm: Refilm, small_film: Path
) -> None:
    data = small_film.read_bytes()
    whole = refilm.folder / "whole.mp4"
    # Fragmented, the index comes with the pictures: half of it is half a film.
    whole.write_bytes(refilm.works("reconstruct", "-", stdin=data))
    cut = refilm.folder / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    error = refilm.fails(4, "reconstruct", cut, "-o", "out.mp4")
    assert "out.partial.mp4" in error
    assert refilm.names() == {"whole.mp4", "cut.mp4", "out.partial.mp4"}


def test_an_interrupt_leaves_nothing_behind(refilm: Refilm) -> None:
    process = refilm.start("reconstruct", "-", "-o", "out.mp4")
    assert process.stdin is not None
    process.stdin.write(b"\0" * 100_000)
    process.stdin.flush()
    # The output's unfinished file says that the command is in progress.
    while not refilm.names():
        assert process.poll() is None
    ends_interrupted(process)
    assert refilm.names() == set()


def test_an_interrupt_does_not_wait_for_standard_input(refilm: Refilm) -> None:
    process = refilm.start("encode", "-", "-o", "out.npz")
    assert process.stdin is not None
    process.stdin.write(b"half a picture")
    process.stdin.flush()
    while waiting_in(process.stdin) or not refilm.names():
        assert process.poll() is None
    ends_interrupted(process)
    assert refilm.names() == set()


def test_an_interrupt_does_not_wait_for_who_reads_the_output(
    refilm: Refilm, small_film: Path
) -> None:
    process = refilm.start("reconstruct", small_film, "-o", "-", "--latents", "out.npz")
    assert process.stdout is not None
    # Far less than the film: what does not fit waits to be written.
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    while not waiting_in(process.stdout):
        assert process.poll() is None
    assert refilm.names()
    ends_interrupted(process)
    assert refilm.names() == set()


def test_a_second_interrupt_ends_what_cannot_clean_up(refilm: Refilm) -> None:
    (refilm.folder / "two.jsonl").write_text(f"{[0.0] * 200}\n" * 2)
    # Nobody ever opens the other end of the second picture's file.
    os.mkfifo(refilm.folder / "1.png")
    process = refilm.start("decode", "two.jsonl", "-o", "%d.png")
    while "0.png" not in refilm.names():
        assert process.poll() is None
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT


def waiting_in(pipe: IO[bytes]) -> int:
    """Return how many bytes were written to a pipe and not read."""
    answer = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def ends_interrupted(process: subprocess.Popen[bytes]) -> None:
    """Interrupt it, and see it end as an interrupted command shall."""
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b"refilm: interrupted\n"


def test_a_reader_that_has_had_enough_ends_it_quietly(refilm: Refilm, pictures: list[Path]) -> None:
    process = subprocess.Popen(
        [*REFILM, "encode", *pictures],
        cwd=refilm.folder,
        env=refilm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1
