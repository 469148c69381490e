"""GetFilm and ListFilms, against a model of the same films in memory."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from fractions import Fraction

import grpc
import pytest
from refilm.v1 import library_pb2 as pb

from service.library import layout
from service.library.films import Film
from tests.service.library.conftest import Library
from tests.support.library_calls import TIMEOUT
from tests.support.library_films import FIRST_DAY, put_films, synthetic_film
from tests.support.status import error_of

COUNT = 200


@pytest.fixture(scope="module")
def films(running_library: Library) -> Iterator[list[Film]]:
    films = [synthetic_film(number) for number in range(COUNT)]
    put_films(running_library.store, films)
    yield films
    running_library.store.delete(info.key for info in running_library.store.list(""))


FILTERS: dict[str, Callable[[Film], bool]] = {
    "": lambda film: True,
    "bunny": lambda film: "bunny" in film.title.lower(),
    "NOT title:bunny": lambda film: "bunny" not in film.title.lower(),
    "-title:bunny width = 640": lambda film: (
        "bunny" not in film.title.lower() and film.facts.width == 640
    ),
    'title = "The \\"Quoted\\" One"': lambda film: film.title == 'The "Quoted" One',
    "title:ÜNÏCODE": lambda film: film.title.startswith("Ünï"),
    "duration > 600s": lambda film: film.facts.duration is not None and film.facts.duration > 600,
    "duration <= 41.70834s": lambda film: (
        film.facts.duration is not None and film.facts.duration <= Fraction("41.70834")
    ),
    "-duration:*": lambda film: film.facts.duration is None,
    "size_bytes >= 150000 size_bytes < 2e5": lambda film: 150_000 <= film.size < 200_000,
    "create_time >= 2026-01-03": lambda film: film.created >= FIRST_DAY + timedelta(days=2),
    'create_time < "2026-01-02T01:30:00+01:30"': lambda film: (
        film.created < FIRST_DAY + timedelta(days=1)
    ),
    "container = webm OR container = mp4 AND video_codec != h264": lambda film: (
        film.facts.container in ("webm", "mp4") and film.facts.video_codec != "h264"
    ),
    "container = webm OR (container = mp4 AND video_codec != h264)": lambda film: (
        film.facts.container == "webm"
        or (film.facts.container == "mp4" and film.facts.video_codec != "h264")
    ),
    "film_id:0012": lambda film: "0012" in film.id,
    'digest = "sha256:' + "0" * 62 + '2a"': lambda film: film.id == "film-00042",
    "height > 100000": lambda film: False,
}


@pytest.mark.parametrize("filter", FILTERS)
def test_a_filter_finds_what_it_says(
    running_library: Library, films: list[Film], filter: str
) -> None:
    found = running_library.client.all(filter=filter, page_size=200)
    wanted = [film for film in films if FILTERS[filter](film)]
    assert [film.name for film in found] == [f"films/{film.id}" for film in wanted]
    assert len(wanted) not in (0, COUNT) or filter in ("", "height > 100000")


@pytest.mark.parametrize("size", [0, 1, 77, 1000])
def test_pages_hold_every_film_once(running_library: Library, films: list[Film], size: int) -> None:
    films = films if size != 1 else films[-5:]
    token = ""
    if size == 1:  # From near the end on: one film a page is slow for all of them.
        token = running_library.client.page(page_size=COUNT - 5).next_page_token
    names: list[str] = []
    while True:
        page = running_library.client.page(page_size=size, page_token=token)
        assert len(page.films) <= min(size or 50, 200)
        names.extend(film.name for film in page.films)
        token = page.next_page_token
        if not token:
            break
    assert names == [f"films/{film.id}" for film in films]


def test_a_listed_film_is_the_one_that_was_kept(
    running_library: Library, films: list[Film]
) -> None:
    (found,) = running_library.client.all(filter="film_id = film-00044")
    film = films[44]
    assert (found.uid, found.title, found.size_bytes, found.digest) == (
        film.uid,
        film.title,
        film.size,
        film.digest,
    )
    assert found.create_time.ToDatetime(film.created.tzinfo) == film.created
    assert film.facts.duration is not None
    assert found.facts.duration.ToNanoseconds() == round(film.facts.duration * 10**9)
    assert found == running_library.client.get("films/film-00044")


def test_a_token_is_for_one_filter(running_library: Library, films: list[Film]) -> None:
    token = running_library.client.page(page_size=1, filter="bunny").next_page_token
    for fields in ({"filter": "sintel"}, {}, {"filter": "bunny", "page_token": token + "AAAA"}):
        failed = error_of(
            lambda fields=fields: running_library.client.page(**{"page_token": token, **fields})
        )
        assert (failed.code, failed.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_PAGE_TOKEN",
        )
        assert failed.fields == ["page_token"]


def test_a_negative_page_size_is_refused(running_library: Library) -> None:
    failed = error_of(lambda: running_library.client.page(page_size=-1))
    assert failed.fields == ["page_size"]


def test_a_filter_that_cannot_be_read_says_where(running_library: Library) -> None:
    failed = error_of(lambda: running_library.client.page(filter="title = bunny AND duration > 9m"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FILTER")
    assert failed.fields == ["filter"]
    assert re.search(r"character 30: .*seconds, for example 600s", failed.message)


def test_a_damaged_film_hides_no_other(running_library: Library, films: list[Film]) -> None:
    running_library.store.put(layout.film_facts("film-00010x"), b"{}")
    try:
        assert len(running_library.client.all(page_size=200)) == COUNT
        failed = error_of(lambda: running_library.client.get("films/film-00010x"))
        assert (failed.code, failed.reason) == (
            grpc.StatusCode.DATA_LOSS,
            "STORED_DATA_DAMAGED",
        )
    finally:
        running_library.client.delete("films/film-00010x")
    assert not running_library.stored("films/film-00010x")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "NAME_REQUIRED"),
        ("film", "INVALID_NAME"),
        ("films/", "INVALID_NAME"),
        ("films/-", "INVALID_NAME"),
        ("films/../deleted/x", "INVALID_NAME"),
        ("films/a/renditions/b", "INVALID_NAME"),
        ("films/A", "INVALID_NAME"),
        ("films/a\n", "INVALID_NAME"),
    ],
)
def test_what_is_no_name_is_refused(running_library: Library, name: str, reason: str) -> None:
    stub = running_library.client.stub
    for call in (
        lambda: stub.GetFilm(pb.GetFilmRequest(name=name), timeout=TIMEOUT),
        lambda: stub.DeleteFilm(pb.DeleteFilmRequest(name=name), timeout=TIMEOUT),
        lambda: list(stub.DownloadFilm(pb.DownloadFilmRequest(name=name), timeout=TIMEOUT)),
    ):
        failed = error_of(call)
        assert (failed.code, failed.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert failed.fields == ["name"]


def test_a_film_that_is_not_there_is_not_found(running_library: Library) -> None:
    failed = error_of(lambda: running_library.client.get("films/nowhere"))
    assert (failed.code, failed.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert failed.resource == ("film", "films/nowhere")
