"""The command line's library, as a person or a script meets it."""

import os
import re
import signal
import subprocess
import sys
from functools import partial

import numpy as np
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import library_pb2 as pb

from tests.client.library import CREATED, PART_BYTES, Library, job, questions_of, stands
from tests.client.scripted_service import IDENTITY
from tests.client.shell import Shell, in_terminal, kinds

FILM = np.random.default_rng(6).bytes(3 * PART_BYTES + 77)
JOB = "films/bunny/reconstructions/1"


FILM_SCHEMA = {
    "name": "str",
    "uid": "str",
    "title": "str",
    "size": "int",
    "digest": "str",
    "created": "str",
    "facts": "dict",
    "owner": "str",
    "visibility": "str",
    "shared_with": "list",
}
JOB_SCHEMA = {
    "name": "str",
    "model": "dict",
    "settings": "dict",
    "state": "str",
    "frames": "int",
    "estimated_frames": "int",
    "position": "float",
    "rendition": "str",
    "fault": "NoneType",
    "created": "str",
    "ended": "NoneType",
    "queue_position": "NoneType",
    "mean_psnr_db": "NoneType",
    "fraction": "float",
}


def test_upload_names_films_after_their_files(library: Library, shell: Shell) -> None:
    for name in ("One Film.mp4", "other.mkv"):
        (shell.folder / name).write_bytes(FILM)
    out, _ = shell("upload", "One Film.mp4", "other.mkv")
    assert out.splitlines() == [
        "films/one-film  1:00, 640 x 360 h264, 3.1 MB",
        "films/other  1:00, 640 x 360 h264, 3.1 MB",
    ]
    *progress, film = shell.json("upload", "other.mkv", "--title", "Third", "--id", "third")
    assert progress[-1]["fraction"] == 1.0
    assert kinds(progress[-1]) == {
        "event": "str",
        "file": "str",
        "bytes_done": "int",
        "bytes_total": "int",
        "bytes_per_second": kinds(progress[-1])["bytes_per_second"],
        "fraction": "float",
        "eta": kinds(progress[-1])["eta"],
    }
    assert (film["event"], film["file"], film["name"], film["title"]) == (
        "film",
        "other.mkv",
        "films/third",
        "Third",
    )
    assert library.bytes["films/third"] == FILM


def test_the_same_upload_is_done_once(library: Library, shell: Shell) -> None:
    film = shell.folder / "film.mp4"
    film.write_bytes(FILM)
    once = shell("upload", "film.mp4")
    assert shell("upload", film) == once
    assert len(library.openings) == 1
    # Deleted since, it is uploaded again, and that once as well.
    shell("delete", "film")
    assert shell("upload", film) == shell("upload", film) == once
    assert [opening.write_offset_bytes for opening in library.openings] == [0, len(FILM), 0]
    # Written again, it is another film.
    film.write_bytes(FILM + b"more")
    _, error = shell("upload", "film.mp4", code=1)
    assert error == "refilm: films/film is there already\n"
    assert library.openings[-1].write_offset_bytes == 0


def test_an_interrupted_upload_goes_on_when_it_is_given_again(
    library: Library, shell: Shell
) -> None:
    (shell.folder / "film.mp4").write_bytes(FILM)
    command = [sys.executable, "-m", "refilm", "upload", "film.mp4"]
    environment = os.environ | {"REFILM_ADDRESS": library.address}
    process: subprocess.Popen[bytes] | None = None

    def interrupt(committed: int) -> None:
        if committed >= 2 * PART_BYTES and process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    library.after_commit = interrupt
    process = subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        # What runs in the background of a shell inherits that SIGINT is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert process.stderr.read().decode() == (
        "refilm: interrupted: the same command goes on with what the service has\n"
    )
    process = None
    assert library.films == {}
    out, _ = shell("upload", "film.mp4")
    assert out.startswith("films/film  ")
    assert library.bytes["films/film"] == FILM
    assert [opening.write_offset_bytes >= 2 * PART_BYTES for opening in library.openings] == [
        False,
        True,
    ]


def test_upload_takes_a_pipe(library: Library, shell: Shell) -> None:
    command = [sys.executable, "-m", "refilm", "upload", "-", "--id", "piped"]
    environment = os.environ | {"REFILM_ADDRESS": library.address}
    subprocess.run(command, env=environment, input=FILM, check=True, stdout=subprocess.DEVNULL)
    assert library.bytes["films/piped"] == FILM


def test_faults_are_one_line(library: Library, shell: Shell) -> None:
    (shell.folder / "notes.txt").write_bytes(b"no film")
    (shell.folder / "there.mp4").write_bytes(b"")
    library.keep("there", b"x")
    for arguments, code, words in (
        (("upload", "notes.txt"), 1, "notes.txt: the bytes are no film"),
        (("upload", "missing.mp4"), 1, "missing.mp4: No such file or directory"),
        (("upload", "a.mp4", "b.mp4", "--id", "x"), 2, "--title and --id name one film"),
        (("upload", "-"), 2, "the standard input has no name"),
        (("film", "other"), 1, "there is no films/other"),
        (("films", "--filter", "title:("), 1, 'a "(" that nothing closes'),
        (("download", "other"), 1, "no films/other"),
        (("download", "there"), 1, "there.mp4: it is there already: name a file with -o"),
        (("download", "there", "-o", "-", "--json"), 2, "both want the standard output"),
        (("delete", "other"), 1, "there is no films/other"),
        (("reconstructions", "show", JOB), 1, f"no {JOB}"),
        (("reconstruct", "films/there", "--store"), 2, "films/there is in the library already"),
        (("reconstruct", "a.mp4", "--title", "A"), 2, "--title and --id go with --store"),
    ):
        out, error = shell(*arguments, code=code)
        assert words in error
        assert (out, error.count("\n")) == ("", 1)


def test_films_as_lines_and_as_json(library: Library, shell: Shell) -> None:
    library.keep("sintel", b"x" * 5000, "Sintel")
    library.keep("bunny", b"x" * 1_000_000, "Big Buck Bunny")
    out, _ = shell("films", "--filter", "duration > 10s")
    assert [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()] == [
        ["FILM", "TITLE", "DURATION", "PICTURE", "SIZE", "CREATED"],
        ["films/bunny", "Big Buck Bunny", "1:00", "640 x 360 h264", "1.0 MB", "2027-01-15 08:00"],
        ["films/sintel", "Sintel", "1:00", "640 x 360 h264", "5.0 kB", "2027-01-15 08:00"],
    ]
    assert questions_of(library, pb.ListFilmsRequest)[0].filter == "duration > 10s"
    bunny, sintel = shell.json("films")
    assert kinds(bunny) == FILM_SCHEMA
    assert (sintel["title"], sintel["created"]) == ("Sintel", "2027-01-15T08:00:00+00:00")
    assert sintel["facts"]["time_base"] == "1/24"


def test_a_film_with_what_was_made_of_it(library: Library, shell: Shell) -> None:
    library.keep(
        "bunny",
        b"x" * 5000,
        "Big Buck Bunny",
        renditions=[
            pb.Rendition(
                name="films/bunny/renditions/r",
                model=IDENTITY,
                size_bytes=9000,
                frames=48,
                duration=Duration(seconds=2),
                create_time=CREATED,
            )
        ],
        latents=[
            pb.StoredLatents(
                name="films/bunny/latents/d", model=IDENTITY, frames=48, create_time=CREATED
            )
        ],
    )
    out, _ = shell("film", "bunny")
    lines = out.splitlines()
    assert lines[:2] == [
        "films/bunny  Big Buck Bunny",
        "  1:00, 640 x 360 h264, 5.0 kB; sound: none",
    ]
    assert lines[4:] == [
        "films/bunny/renditions/r",
        "  pca v2, reconstruction, size of the model, sound, standard; 48 frames, 0:02, 9.0 kB",
        "films/bunny/latents/d",
        "  pca v2; [48, 200]",
    ]
    (film,) = shell.json("film", "films/bunny")
    assert kinds(film) == FILM_SCHEMA | {"renditions": "list", "latents": "list"}
    assert film["renditions"][0]["settings"] == {
        "layout": "reconstruction",
        "size": "model",
        "sound": True,
        "quality": "standard",
    }


def test_download_names_files_as_the_service_does(library: Library, shell: Shell) -> None:
    library.keep("bunny", FILM)
    out, _ = shell("download", "bunny")
    assert out == "bunny.mp4: 3.1 MB, video/mp4\n"
    assert (shell.folder / "bunny.mp4").read_bytes() == FILM
    (shell.folder / "folder").mkdir()
    shell("download", "films/bunny", "-o", "folder")
    assert (shell.folder / "folder" / "bunny.mp4").read_bytes() == FILM
    *progress, done = shell.json("download", "bunny", "-o", "copy.mp4")
    assert progress[-1]["fraction"] == 1.0
    assert done == {
        "event": "download",
        "output": "copy.mp4",
        "size": len(FILM),
        "media_type": "video/mp4",
        "file_name": "bunny.mp4",
    }
    piped = [sys.executable, "-m", "refilm", "download", "bunny", "-o", "-"]
    environment = os.environ | {"REFILM_ADDRESS": library.address}
    assert subprocess.run(piped, env=environment, capture_output=True).stdout == FILM


def test_a_name_from_the_service_leads_nowhere_else(library: Library, shell: Shell) -> None:
    library.keep("bunny", b"x")
    library.folder = "../"
    shell("download", "bunny")
    assert (shell.folder / "bunny.mp4").exists()
    assert not (shell.folder.parent / "bunny.mp4").exists()


def test_delete(library: Library, shell: Shell) -> None:
    for name in ("one", "two", "three"):
        library.keep(name, b"x")
    out, _ = shell("delete", "one", "films/two")
    assert out == "films/one deleted\nfilms/two deleted\n"
    assert shell.json("delete", "three") == [{"deleted": "films/three"}]
    assert library.films == {}


def test_delete_asks_on_a_terminal(library: Library, shell: Shell) -> None:
    library.keep("bunny", b"x")
    command = [sys.executable, "-m", "refilm", "delete", "bunny"]
    for answer, code, left in ((b"n\n", 1, True), (b"y\n", 0, False)):
        assert in_terminal(command, library.address, answer)[0] == code
        assert ("films/bunny" in library.films) == left


def test_a_terminal_gets_a_drawn_table_and_a_bar(library: Library, shell: Shell) -> None:
    library.keep("bunny", b"x", "[red]Bunny")
    code, shown = in_terminal([sys.executable, "-m", "refilm", "films"], library.address)
    assert code == 0
    # Other people's words are no markup.
    assert "[red]Bunny" in shown and "───" in shown

    (shell.folder / "film.mp4").write_bytes(FILM)
    command = [sys.executable, "-m", "refilm", "upload", "film.mp4"]
    code, shown = in_terminal(command, library.address)
    assert code == 0
    assert "of 3.1 MB" in shown
    assert shown.splitlines()[-1].endswith("films/film  1:00, 640 x 360 h264, 3.1 MB")


def test_reconstructions_that_outlive_the_command(library: Library, shell: Shell) -> None:
    library.keep("bunny", b"x")
    running, done = pb.RECONSTRUCTION_STATE_RUNNING, pb.RECONSTRUCTION_STATE_SUCCEEDED
    library.jobs[JOB] = stands(job(running, 40))
    out, _ = shell("reconstructions", "start", "bunny", "--quality", "draft", "--model", "pca")
    assert out.splitlines() == [JOB, "  running: 40 of about 100 frames, at 0:00; pca v2"]
    request = library.requests[0]
    assert (request.film, request.model.name) == ("films/bunny", "models/pca")

    out, _ = shell("reconstructions", "list")
    head, line = (re.split(r"\s{2,}", line) for line in out.splitlines())
    assert head == ["RECONSTRUCTION", "STATE", "DONE", "MODEL", "CREATED"]
    assert line == [JOB, "running", "40%", "pca v2", "2027-01-15 08:00"]
    (shown,) = shell.json("reconstructions", "list", "bunny")
    assert kinds(shown) == JOB_SCHEMA
    assert shell.json("reconstructions", "show", JOB) == [shown]

    library.jobs[JOB] = stands(job(running, 40), job(running, 90), job(done, 100))
    out, error = shell("reconstructions", "watch", JOB)
    assert error == "running: 40 of about 100 frames, at 0:00\n"
    assert out.splitlines()[-1] == "  films/bunny/renditions/r"
    library.jobs[JOB] = stands(job(running, 40), job(running, 90), job(done, 100))
    states = shell.json("reconstructions", "start", "bunny", "--watch")
    assert [state["state"] for state in states] == ["running", "succeeded"]

    fault = pb.ReconstructionFault(reason="NO_PICTURE", message="there is no picture")
    library.jobs[JOB] = stands(job(pb.RECONSTRUCTION_STATE_FAILED, fault=fault))
    out, _ = shell("reconstructions", "watch", JOB, code=1)
    assert "  there is no picture (NO_PICTURE)" in out.splitlines()
    (failed,) = shell.json("reconstructions", "show", JOB, code=1)
    assert failed["fault"] == {"reason": "NO_PICTURE", "message": "there is no picture"}
    library.jobs[JOB] = stands(job(pb.RECONSTRUCTION_STATE_CANCELLED))
    assert "cancelled" in shell("reconstructions", "cancel", JOB)[0]


def test_an_error_says_which_command_helps(library: Library, shell: Shell) -> None:
    def said(*command: str) -> str:
        return shell(*command, code=1)[1].strip()

    assert said("film", "nothing") == (
        "refilm: there is no films/nothing; `refilm films` lists those that there are"
    )
    job = "films/nothing/reconstructions/1"
    assert said("reconstructions", "show", job) == (
        f"refilm: no {job}; `refilm reconstructions list` lists those that there are"
    )


def test_a_frame_is_saved_as_the_file_is_named(library: Library, shell: Shell) -> None:
    name = "films/bunny/renditions/r"
    out, _ = shell("frame", f"{name}@1.5", "-o", "poster.jpg")
    assert out == "poster.jpg: at 0:01.500, pca v2\n"
    assert (shell.folder / "poster.jpg").read_bytes() == b"a picture"
    asked = library.requests[-1]
    assert isinstance(asked, pb.GetFrameRequest)
    assert (asked.name, asked.time.ToMilliseconds()) == (name, 1500)
    (shown,) = shell.json("frame", name, "-o", "poster.png")
    assert (shown["output"], shown["time"]) == ("poster.png", 1.5)
    assert library.requests[-1].format != asked.format
    assert "saved as .jpg" in shell("frame", name, "-o", "poster.txt", code=2)[1]
