"""UploadFilm and its neighbours, on a running service, over a folder and a real S3 server."""

import io
import zipfile
from typing import Any

import grpc
import pytest
from refilm.v1 import library_pb2 as pb

from film.errors import NoPictureError, NotAFilmError, TruncatedFilmError
from service.library.upload import PART_BYTES
from tests.service.library.conftest import IDLE_SECONDS, MAX_FILM, Library
from tests.support.library_calls import (
    PART,
    TIMEOUT,
    HeldUpload,
    LibraryClient,
    digest_of,
    film_bytes,
    opening,
    start_library,
)
from tests.support.service_process import wait_for
from tests.support.status import error_of

SIZE = PART + 12345
FILM = film_bytes(SIZE)


def zip_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("film.txt", "no film")
    return file.getvalue()


NOT_FILMS = {
    "a ZIP archive": (zip_archive(), NotAFilmError.reason),
    "a PDF document": (b"%PDF-1.7\n" + bytes(9 * 2**20), NotAFilmError.reason),
    "no film can be read": (b"plain words, again and again. " * 400_000, NotAFilmError.reason),
    "a PNG picture": (b"\x89PNG\r\n\x1a\n" + bytes(600), NoPictureError.reason),
    "is truncated": (film_bytes()[:4000], TruncatedFilmError.reason),
    "without one byte": (b"", "EMPTY_FILM"),
}


def test_a_part_is_what_the_tests_take_it_for() -> None:
    assert PART_BYTES == PART


@pytest.mark.parametrize("size", [0, PART, 2 * PART + 1])
def test_what_is_uploaded_is_there_to_the_byte(library: Library, size: int) -> None:
    data = film_bytes(size)
    film = library.client.upload(data, title="Big Buck Bünny!")
    assert film.name.startswith("films/big-buck-bunny-")
    assert (film.title, film.size_bytes, film.digest) == (
        "Big Buck Bünny!",
        len(data),
        digest_of(data),
    )
    facts = film.facts
    assert (facts.container, facts.video_codec, facts.width, facts.height) == (
        "mp4",
        "h264",
        640,
        360,
    )
    assert facts.duration.seconds == 60 and facts.sound_tracks[0].codec == "aac"
    assert library.client.get(film.name) == film
    assert library.client.all() == [film]
    assert library.client.download(film.name) == data
    # An upload that nobody can go on with leaves nothing but the film.
    assert not library.stored("uploads/")


@pytest.mark.parametrize("sent", [0, PART - 1, PART, PART + 1, SIZE])
def test_a_cut_upload_resumes_from_the_committed_size(library: Library, sent: int) -> None:
    settings: dict[str, Any] = {
        "upload_id": "cut",
        "film_id": "cut",
        "digest": digest_of(FILM),
    }
    held = HeldUpload(library.client, FILM, sent, **settings)
    held.wait_committed()
    held.cut()
    assert library.client.committed("cut") == sent // PART * PART
    assert library.client.all() == []
    film = library.client.go_on(FILM, **settings)
    assert film.name == "films/cut"
    assert library.client.download("films/cut") == FILM
    got = library.client.stub.GetUpload(
        pb.GetUploadRequest(name="uploads/cut"), timeout=TIMEOUT
    ).upload
    assert (got.name, got.committed_bytes, got.film) == ("uploads/cut", SIZE, film)
    # Its parts are gone: what is left says how it ended.
    assert library.stored("uploads/") == [
        "uploads/cut/end.json",
        "uploads/cut/upload.json",
    ]


def test_any_replica_goes_on_with_an_upload(library: Library, tmp_path) -> None:
    held = HeldUpload(library.client, FILM, PART + 5, upload_id="moved", film_id="moved")
    held.wait_committed()
    held.cut()
    with start_library(tmp_path, library.kept) as other:
        film = LibraryClient(other.channel).go_on(FILM, upload_id="moved", film_id="moved")
    assert film.digest == digest_of(FILM)
    assert library.client.download("films/moved") == FILM


def test_a_cut_upload_without_an_id_leaves_nothing(library: Library) -> None:
    held = HeldUpload(library.client, FILM, PART + 5, title="lost")
    wait_for(lambda: any("/parts/" in key for key in library.stored()), "a part", TIMEOUT)
    held.cut()
    wait_for(lambda: not library.stored(), "an empty store", TIMEOUT)


def test_a_finished_upload_may_be_sent_again(library: Library) -> None:
    settings: dict[str, Any] = {"upload_id": ".twice", "title": "Twice"}
    film = library.client.upload(FILM, **settings)
    for offset in (0, PART, SIZE):
        assert library.client.upload(FILM, offset, **settings) == film
    assert library.client.all() == [film]
    library.client.delete(film.name)
    failed = error_of(lambda: library.client.upload(FILM, **settings))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")


def test_another_offset_is_refused_with_the_committed_size(library: Library) -> None:
    held = HeldUpload(library.client, FILM, PART, upload_id="here")
    held.wait_committed()
    held.cut()
    for offset in (0, 1, PART - 1, PART + 1, SIZE):
        failed = error_of(
            lambda offset=offset: library.client.upload(FILM, offset, upload_id="here")
        )
        assert (failed.code, failed.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "UPLOAD_OFFSET_MISMATCH",
        )
        assert failed.metadata["committed_bytes"] == str(PART)
    assert library.client.go_on(FILM, upload_id="here").digest == digest_of(FILM)


def test_other_settings_are_another_upload(library: Library) -> None:
    held = HeldUpload(library.client, FILM, PART, upload_id="mine", title="One")
    held.wait_committed()
    failed = error_of(lambda: library.client.upload(FILM, upload_id="mine", title="Two"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.ALREADY_EXISTS, "UPLOAD_EXISTS")
    assert "title" in failed.message and failed.resource == ("upload", "mine")
    assert held.send_rest().title == "One"


def test_two_streams_of_one_upload_make_one_film(library: Library) -> None:
    first = HeldUpload(library.client, FILM, PART - 1, upload_id="race", film_id="race")
    second = HeldUpload(library.client, FILM, PART - 1, upload_id="race", film_id="race")
    first.wait_committed()
    second.wait_committed()
    assert first.send_rest() == second.send_rest() == library.client.get("films/race")
    assert library.client.download("films/race") == FILM


def test_streams_that_send_other_bytes_never_mix(library: Library) -> None:
    other = film_bytes(SIZE, seed=1)
    first = HeldUpload(library.client, FILM, PART - 1, upload_id="race", film_id="race")
    # Both begin before anything is committed; the second may be as late as it likes.
    wait_for(lambda: library.stored(), "the first upload")
    second = HeldUpload(library.client, other, PART - 1, upload_id="race", film_id="race")
    assert second.send_rest().digest == digest_of(other)
    failed = error_of(first.send_rest)
    assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "UPLOAD_CONFLICT")
    assert library.client.download("films/race") == other


@pytest.mark.parametrize("what", NOT_FILMS)
def test_what_is_no_film_is_refused_and_leaves_nothing(library: Library, what: str) -> None:
    data, reason = NOT_FILMS[what]
    failed = error_of(lambda: library.client.upload(data, upload_id="no", film_id="no"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert failed.fields == ["chunk"] and what in failed.message
    assert library.stored() == []


def test_a_refused_film_uses_up_no_id(library: Library) -> None:
    error_of(lambda: library.client.upload(zip_archive(), upload_id="no", film_id="no"))
    assert library.client.upload(film_bytes(), upload_id="no", film_id="no").name == "films/no"


def test_other_bytes_than_meant_leave_nothing(library: Library) -> None:
    failed = error_of(lambda: library.client.upload(FILM, digest=digest_of(b"another")))
    assert (failed.code, failed.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FILM_DIGEST_MISMATCH",
    )
    assert digest_of(FILM) in failed.message and library.stored() == []


def test_more_bytes_than_announced_leave_nothing(library: Library) -> None:
    failed = error_of(lambda: library.client.upload(FILM, film_size_bytes=SIZE - 1))
    assert (failed.code, failed.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FILM_SIZE_MISMATCH",
    )
    assert library.stored() == []


def test_fewer_bytes_than_announced_are_kept_to_go_on(library: Library) -> None:
    settings: dict[str, Any] = {"upload_id": "short", "film_size_bytes": SIZE}
    failed = error_of(lambda: library.client.upload(FILM[: PART + 99], **settings))
    assert (failed.code, failed.reason) == (grpc.StatusCode.DATA_LOSS, "FILM_TRUNCATED")
    assert library.client.committed("short") == PART
    assert library.client.go_on(FILM, **settings).digest == digest_of(FILM)


@pytest.mark.parametrize("announced", [0, MAX_FILM + 1])
def test_a_film_that_is_too_large_leaves_nothing(library: Library, announced: int) -> None:
    film = film_bytes(MAX_FILM + 1)
    failed = error_of(lambda: library.client.upload(film, film_size_bytes=announced))
    assert (failed.code, failed.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "FILM_TOO_LARGE",
    )
    assert library.stored() == []


def test_a_films_id_is_used_once(library: Library) -> None:
    library.client.upload(film_bytes(), film_id="mine")
    held = HeldUpload(library.client, FILM, PART, upload_id="under-way", film_id="coming")
    held.wait_committed()
    for film_id in ("mine", "coming"):
        failed = error_of(lambda film_id=film_id: library.client.upload(FILM, film_id=film_id))
        assert (failed.code, failed.reason) == (grpc.StatusCode.ALREADY_EXISTS, "FILM_EXISTS")
        assert failed.resource == ("film", f"films/{film_id}")
    held.send_rest()
    library.client.delete("films/mine")
    failed = error_of(lambda: library.client.upload(FILM, film_id="mine"))
    assert failed.reason == "FILM_EXISTS"
    assert [film.name for film in library.client.all()] == ["films/coming"]
    assert not library.stored("films/mine/")


@pytest.mark.parametrize(
    ("field", "reason", "settings"),
    [
        ("upload_id", "INVALID_UPLOAD_ID", {"upload_id": "a/b"}),
        ("upload_id", "INVALID_UPLOAD_ID", {"upload_id": "x" * 65}),
        ("film_id", "INVALID_FILM_ID", {"film_id": "Film"}),
        ("film_id", "INVALID_FILM_ID", {"film_id": "-film"}),
        ("film_id", "INVALID_FILM_ID", {"film_id": "../film"}),
        ("film_id", "INVALID_FILM_ID", {"film_id": "f" * 64}),
        ("title", "INVALID_TITLE", {"title": "t" * 201}),
        ("title", "INVALID_TITLE", {"title": "one\ntwo"}),
        ("digest", "INVALID_DIGEST", {"digest": "md5:0"}),
    ],
)
def test_settings_that_cannot_be_name_their_field(
    library: Library, field: str, reason: str, settings: dict[str, Any]
) -> None:
    failed = error_of(lambda: library.client.upload(FILM, **settings))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert failed.fields == [f"opening.settings.{field}"]


@pytest.mark.parametrize(
    ("reason", "messages"),
    [
        ("EMPTY_STREAM", []),
        ("OPENING_REQUIRED", [pb.UploadFilmRequest(chunk=b"film")]),
        ("OPENING_REPEATED", [opening(), opening()]),
        ("CHUNK_REQUIRED", [opening(), pb.UploadFilmRequest()]),
        ("INVALID_CHUNK_SIZE", [opening(), pb.UploadFilmRequest(chunk=b"")]),
        ("INVALID_CHUNK_SIZE", [opening(), pb.UploadFilmRequest(chunk=bytes(2**20 + 1))]),
    ],
)
def test_messages_out_of_order_are_refused(library: Library, reason: str, messages: list) -> None:
    failed = error_of(lambda: library.client.stub.UploadFilm(iter(messages), timeout=TIMEOUT))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert library.stored() == []


def test_an_upload_that_is_given_up_leaves_nothing(library: Library) -> None:
    held = HeldUpload(library.client, FILM, PART + 5, upload_id="given-up", film_id="given-up")
    held.wait_committed()
    request = pb.CancelUploadRequest(name="uploads/given-up")
    library.client.stub.CancelUpload(request, timeout=TIMEOUT)
    assert library.stored() == []
    failed = error_of(held.send_rest)
    assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "UPLOAD_GONE")
    for call in (
        lambda: library.client.stub.CancelUpload(request, timeout=TIMEOUT),
        lambda: library.client.stub.GetUpload(
            pb.GetUploadRequest(name="uploads/given-up"), timeout=TIMEOUT
        ),
    ):
        missing = error_of(call)
        assert (missing.code, missing.reason) == (
            grpc.StatusCode.NOT_FOUND,
            "UPLOAD_NOT_FOUND",
        )
    assert library.client.upload(FILM, film_id="given-up").name == "films/given-up"


def test_an_upload_that_is_complete_cannot_be_given_up(library: Library) -> None:
    film = library.client.upload(FILM, upload_id="done")
    failed = error_of(
        lambda: library.client.stub.CancelUpload(
            pb.CancelUploadRequest(name="uploads/done"), timeout=TIMEOUT
        )
    )
    assert (failed.code, failed.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "UPLOAD_COMPLETE",
    )
    assert library.client.download(film.name) == FILM


def test_a_caller_who_sends_nothing_is_let_go(library: Library) -> None:
    held = HeldUpload(library.client, FILM, PART + 5, upload_id="idle")
    held.wait_committed()
    failed = error_of(held.call.result)
    assert (failed.code, failed.reason) == (grpc.StatusCode.ABORTED, "CALLER_IDLE")
    assert f"{IDLE_SECONDS} s" in failed.message
    assert library.client.go_on(FILM, upload_id="idle").digest == digest_of(FILM)


def test_damaged_parts_are_sent_again(library: Library) -> None:
    film = film_bytes(2 * PART + 5)
    held = HeldUpload(library.client, film, 2 * PART, upload_id="damaged")
    held.wait_committed()
    held.cut()
    second = library.stored("uploads/damaged/parts/")[1]
    library.store.put(second, bytes(PART))
    failed = error_of(lambda: library.client.upload(film, 2 * PART, upload_id="damaged"))
    assert failed.reason == "UPLOAD_OFFSET_MISMATCH"
    assert failed.metadata["committed_bytes"] == str(PART)
    assert library.client.go_on(film, upload_id="damaged").digest == digest_of(film)


def test_metrics_count_what_was_sent(library: Library) -> None:
    before = library.service.metric("refilm_upload_bytes_total")
    library.client.upload(FILM)
    assert library.service.metric("refilm_upload_bytes_total") == before + SIZE
    assert library.service.metric("refilm_uploads_running") == 0
