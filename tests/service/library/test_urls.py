"""Films that go to the store directly, by URL; and stores that have no URLs."""

import urllib.request
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import library_pb2 as pb

from tests.service.library.conftest import MAX_FILM, Library
from tests.support.library_calls import PART, TIMEOUT, film_bytes
from tests.support.status import error_of

SIZE = PART + 4321
FILM = film_bytes(SIZE)

HOUR = 3600


def test_a_folder_has_no_urls(library: Library) -> None:
    if "REFILM_S3_ENDPOINT" in library.kept.environment:
        pytest.skip("a bucket has")
    library.client.upload(film_bytes(), film_id="here")
    stub = library.client.stub
    settings = pb.UploadSettings(upload_id="url")
    for call in (
        lambda: stub.CreateDownloadUrls(pb.CreateDownloadUrlsRequest(name="films/here")),
        lambda: stub.CreateUploadUrl(pb.CreateUploadUrlRequest(settings=settings)),
    ):
        failed = error_of(call)
        assert (failed.code, failed.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "PRESIGNING_UNSUPPORTED",
        )
    assert not library.stored("uploads/")


@pytest.mark.parametrize("seconds", [0, -1, 7 * 24 * HOUR + 1])
def test_a_time_to_live_that_cannot_be_is_refused(library: Library, seconds: int) -> None:
    stub = library.client.stub
    valid = Duration(seconds=seconds)
    for call in (
        lambda: stub.CreateDownloadUrls(
            pb.CreateDownloadUrlsRequest(name="films/a", time_to_live=valid)
        ),
        lambda: stub.CreateUploadUrl(
            pb.CreateUploadUrlRequest(settings=pb.UploadSettings(upload_id="u"), time_to_live=valid)
        ),
    ):
        failed = error_of(call)
        assert failed.reason == "INVALID_TIME_TO_LIVE" and failed.fields == ["time_to_live"]


def test_a_film_can_be_put_to_the_store_itself(bucket_library: Library) -> None:
    library = bucket_library
    settings = {"upload_id": "by-url", "film_id": "by-url", "title": "By URL"}
    url = _upload_url(library, **settings)
    failed = error_of(lambda: _complete(library, "by-url"))
    assert (failed.code, failed.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "UPLOAD_INCOMPLETE",
    )
    _put(url, FILM)
    assert library.client.committed("by-url") == SIZE
    film = _complete(library, "by-url")
    assert film == _complete(library, "by-url") == library.client.get("films/by-url")
    assert library.client.download("films/by-url") == FILM
    # Whoever still has the URL changes nothing of the film.
    _put(url, b"other bytes")
    assert _complete(library, "by-url") == film
    assert library.client.download("films/by-url") == FILM


@pytest.mark.parametrize(
    ("data", "settings", "reason"),
    [
        (b"PK\x03\x04" + bytes(700), {}, "NOT_A_FILM"),
        (FILM, {"digest": f"sha256:{'0' * 64}"}, "FILM_DIGEST_MISMATCH"),
        (film_bytes(MAX_FILM + 1), {}, "FILM_TOO_LARGE"),
    ],
)
def test_what_is_put_to_the_store_is_checked_as_well(
    bucket_library: Library, data: bytes, settings: dict[str, str], reason: str
) -> None:
    _put(_upload_url(bucket_library, upload_id="wrong", **settings), data)
    assert error_of(lambda: _complete(bucket_library, "wrong")).reason == reason
    assert bucket_library.stored() == []


def test_the_size_put_must_be_the_one_announced(bucket_library: Library) -> None:
    url = _upload_url(bucket_library, upload_id="sized", film_size_bytes=SIZE)
    _put(url, FILM[:-1])
    assert error_of(lambda: _complete(bucket_library, "sized")).reason == "UPLOAD_INCOMPLETE"
    _put(url, FILM)
    assert _complete(bucket_library, "sized").size_bytes == SIZE


def _upload_url(library: Library, **settings: Any) -> str:
    request = pb.CreateUploadUrlRequest(settings=pb.UploadSettings(**settings))
    return library.client.stub.CreateUploadUrl(request, timeout=TIMEOUT).url


def _complete(library: Library, upload_id: str) -> pb.Film:
    request = pb.CompleteUploadRequest(name=f"uploads/{upload_id}")
    return library.client.stub.CompleteUpload(request, timeout=TIMEOUT).film


def _put(url: str, data: bytes) -> None:
    request = urllib.request.Request(url, data=data, method="PUT")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        assert answer.status == 200
