"""SearchFrames over a socket: pictures, latents and moments, pages, and what is wrong with them."""

from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import latents_pb2 as pb

from film.image import decode_image, encode_image
from tests.service.search.library import SearchLibrary, all_pages, seconds, span
from tests.support.library_calls import LibraryClient
from tests.support.messages import latent as latent_message
from tests.support.messages import model_of, selector
from tests.support.service_process import wait_for
from tests.support.shots import BLACK, FRAME_RATE, Shot, pictures
from tests.support.status import error_of

FIRST = [Shot(number, 3.0) for number in range(4)] + [Shot(BLACK, 3.0)]
SECOND = [Shot(10, 4.0), Shot(BLACK, 2.0), Shot(1, 2.0, start=0.5), Shot(12, 3.0, drift=0.0)]
OFTEN = [
    shot for part in range(7) for shot in (Shot(80, 1.0, start=part / 4), Shot(90 + part, 1.5))
]


@pytest.fixture(scope="module")
def library(search_library: SearchLibrary) -> SearchLibrary:
    search_library.store("first", FIRST)
    search_library.store("second", SECOND)
    search_library.store("elsewhere", [Shot(50, 5.0)], version=1)
    search_library.store("often", OFTEN)
    search_library.wait_for_index("films/first", "films/second", "films/often")
    return search_library


def raw(picture: np.ndarray) -> auto.Frame:
    height, width, _ = picture.shape
    return auto.Frame(raw=auto.RawImage(width=width, height=height, rgb=picture.tobytes()))


def picture(shot: Shot, at: float) -> np.ndarray:
    return pictures([Shot(shot.number, 1 / FRAME_RATE, shot.start + at, shot.drift)])[0]


def at(time: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(time * 1e6))
    return duration


def moment(film: str, time: float) -> pb.FilmMoment:
    return pb.FilmMoment(film=film, time=at(time))


def test_a_picture_is_found_where_it_is_shown(library: SearchLibrary) -> None:
    answer = library.search(frame=raw(picture(FIRST[1], 1.0)), include_previews=True)

    there, again = answer.hits[:2]
    assert there.film == "films/first" and there.title == "First"
    assert seconds(there.best_time) == 4.0 and there.similarity == pytest.approx(1, abs=1e-3)
    assert 3.0 <= span(there)[1] <= 4.0 < span(there)[2] <= 6.0
    assert again.film == "films/second" and seconds(again.best_time) == pytest.approx(6.5, abs=0.1)
    assert again.similarity == pytest.approx(1, abs=1e-3)
    assert [hit.similarity for hit in answer.hits] == sorted(
        (hit.similarity for hit in answer.hits), reverse=True
    )
    assert all(hit.similarity < 0.8 for hit in answer.hits[2:])
    assert answer.model.digest == library.models[2].digest
    assert answer.query_warning == ""
    assert (answer.films_searched, answer.films_left_out) == (3, 1)
    remembered = decode_image(there.preview).astype(float)
    assert remembered.shape == (144, 256, 3)
    assert np.abs(remembered - picture(FIRST[1], 1.0)).mean() < 25


def test_a_picture_file_of_another_size(library: SearchLibrary) -> None:
    large = picture(FIRST[2], 0.5).repeat(3, axis=0).repeat(3, axis=1)

    answer = library.search(frame=auto.Frame(image=encode_image(large, "jpeg")))

    assert answer.hits[0].film == "films/first"
    assert seconds(answer.hits[0].best_time) == pytest.approx(6.5, abs=0.1)
    assert not answer.hits[0].preview


def test_bars_around_a_picture_are_cut_off(library: SearchLibrary) -> None:
    shown = picture(FIRST[3], 1.0)
    framed = np.zeros((256, 256, 3), np.uint8)
    framed[56:200] = shown

    (hit,) = library.search(frame=raw(framed), page_size=1).hits

    assert span(hit)[0] == "films/first" and seconds(hit.best_time) == pytest.approx(10, abs=0.1)
    assert hit.similarity > 0.98


def test_a_moment_finds_itself_first(library: SearchLibrary) -> None:
    answer = library.search(moment=moment("films/second", 6.5))

    own, other = answer.hits[:2]
    assert own.similarity == pytest.approx(1, abs=1e-6)
    assert {own.film, other.film} == {"films/first", "films/second"}
    assert other.similarity == pytest.approx(1, abs=1e-3)


def test_a_latent_finds_its_frame(library: SearchLibrary) -> None:
    rows = library.store("third", [Shot(60, 3.0)])
    library.wait_for_index("films/third")
    latent = latent_message(rows.latents[17])

    (hit,) = library.search(latent=latent, films=["films/third"], page_size=1).hits

    assert seconds(hit.best_time) == pytest.approx(17 / 12, abs=1e-5)
    assert hit.similarity == pytest.approx(1, abs=1e-4)


def test_films_and_times_are_filters(library: SearchLibrary) -> None:
    frame = raw(picture(FIRST[1], 1.0))
    late = pb.TimeRange(start_time=at(6.0), end_time=at(8.2))

    only = library.search(frame=frame, films=["films/second"])
    timed = library.search(frame=frame, range=late)

    assert {hit.film for hit in only.hits} == {"films/second"}
    assert (only.films_searched, only.films_left_out) == (1, 0)
    assert timed.hits[0].film == "films/second"
    for hit in timed.hits:
        assert 6.0 <= span(hit)[1] < span(hit)[2] <= 8.2 + 1 / FRAME_RATE


def test_similarity_has_a_least(library: SearchLibrary) -> None:
    frame = raw(picture(FIRST[1], 1.0))

    hits = library.search(frame=frame, min_similarity=0.95, films=["films/first"]).hits

    assert [hit.film for hit in hits] == ["films/first"]
    assert hits[0].similarity >= 0.95


def test_pages_make_the_whole_list(library: SearchLibrary) -> None:
    query: dict[str, Any] = {"frame": raw(picture(OFTEN[0], 1.0)), "min_similarity": 0.2}
    whole = library.search(page_size=100, **query)
    assert not whole.next_page_token and len(whole.hits) >= 7, whole.hits

    paged = all_pages(library, page_size=2, **query)
    skipped = library.search(page_size=3, skip=2, **query)
    token = library.search(page_size=2, **query).next_page_token
    from_the_token = library.search(page_size=1, skip=1, page_token=token, **query)

    assert paged == list(whole.hits)
    assert list(skipped.hits) == list(whole.hits[2:5])
    assert list(from_the_token.hits) == list(whole.hits[3:4])


def test_a_token_belongs_to_its_query(library: SearchLibrary) -> None:
    frame = raw(picture(OFTEN[0], 1.0))
    token = library.search(frame=frame, page_size=1).next_page_token

    for changed in (
        {"frame": raw(picture(FIRST[1], 1.0))},
        {"frame": frame, "min_similarity": 0.1},
        {"frame": frame, "films": ["films/first"]},
        {"frame": frame, "page_token": "nonsense"},
    ):
        request: dict[str, Any] = {"page_token": token, **changed}
        error = error_of(lambda request=request: library.search(**request))
        assert (error.code, error.reason, list(error.fields)) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_PAGE_TOKEN",
            ["page_token"],
        )


def test_black_frames_do_not_crowd_out(library: SearchLibrary) -> None:
    dark = (picture(FIRST[0], 1.0) * 0.3).astype(np.uint8)

    answer = library.search(frame=raw(dark), films=["films/first", "films/second"])

    assert answer.query_warning == ""
    shown = [span(hit) for hit in answer.hits]
    assert not any(film == "films/first" and start >= 12.2 for film, start, _ in shown)


def test_a_black_query_is_said_to_be_one(library: SearchLibrary) -> None:
    black = np.zeros((144, 256, 3), np.uint8)

    by_frame = library.search(frame=raw(black))
    by_moment = library.search(moment=moment("films/second", 5.0))

    for answer in (by_frame, by_moment):
        assert "almost of one colour" in answer.query_warning
        assert len(answer.hits) <= 10
    own = next(hit for hit in by_moment.hits if hit.film == "films/second")
    assert own.similarity == pytest.approx(1, abs=1e-6)


def test_latents_of_models_never_meet(library: SearchLibrary) -> None:
    one, two = library.models[1].digest, library.models[2].digest
    foreign = latent_message([0.5] * 200, one)

    latent = error_of(lambda: library.search(latent=foreign, model=selector("pca", 2)))
    elsewhere = error_of(
        lambda: library.search(
            moment=moment("films/elsewhere", 1.0), model=auto.ModelSelector(digest=two)
        )
    )

    for error in (latent, elsewhere):
        assert error.code == grpc.StatusCode.FAILED_PRECONDITION
        assert one in error.message and two in error.message
    assert latent.reason == "MODEL_DIGEST_MISMATCH"
    assert elsewhere.reason == "LATENTS_OF_OTHER_MODEL"


def test_each_model_has_its_own_films(library: SearchLibrary) -> None:
    first = selector("pca", 1)
    frame = raw(picture(Shot(50, 5.0), 2.0))
    wait_for(lambda: library.search(frame=frame, model=first).films_searched == 1, "the index")

    answer = library.search(frame=frame, model=first)

    assert {hit.film for hit in answer.hits} == {"films/elsewhere"}
    assert answer.hits[0].similarity == pytest.approx(1, abs=1e-3)
    assert model_of(answer.model)[1] == 1


@pytest.mark.parametrize(
    ("request_fields", "field", "reason"),
    [
        ({}, "query", "QUERY_REQUIRED"),
        ({"frame": auto.Frame()}, "frame", "FRAME_REQUIRED"),
        ({"latent": latent_message([1.0])}, "latent.floats.values", "INVALID_LATENT_SIZE"),
        ({"min_similarity": 1.5}, "min_similarity", "INVALID_MIN_SIMILARITY"),
        ({"min_similarity": float("nan")}, "min_similarity", "INVALID_MIN_SIMILARITY"),
        ({"page_size": -1}, "page_size", "INVALID_PAGE_SIZE"),
        ({"skip": -1}, "skip", "INVALID_SKIP"),
        ({"films": ["films/first", "first"]}, "films[1]", "INVALID_NAME"),
        (
            {"range": pb.TimeRange(start_time=Duration(seconds=2), end_time=Duration(seconds=1))},
            "range.end_time",
            "INVALID_TIME_RANGE",
        ),
    ],
)
def test_faults_are_named(
    library: SearchLibrary, request_fields: dict[str, Any], field: str, reason: str
) -> None:
    error = error_of(lambda: library.search(**request_fields))

    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (list(error.fields), error.reason) == ([field], reason)


def test_a_film_that_is_not_there(library: SearchLibrary) -> None:
    frame = raw(picture(FIRST[0], 1.0))

    named = error_of(lambda: library.search(frame=frame, films=["films/none"]))
    asked = error_of(lambda: library.search(moment=moment("films/none", 1.0)))
    late = error_of(lambda: library.search(moment=moment("films/first", 99.0)))

    for error in (named, asked):
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert late.code == grpc.StatusCode.OUT_OF_RANGE


def test_what_is_deleted_is_found_nowhere(library: SearchLibrary) -> None:
    """On the replica that deleted it and on the other, from that moment on."""
    library.store("gone", [Shot(70, 3.0), Shot(71, 3.0)])
    library.wait_for_index("films/gone")
    frame = raw(picture(Shot(70, 3.0), 1.0))
    for replica in (0, 1):
        assert library.search(replica, frame=frame).hits[0].film == "films/gone"

    LibraryClient(library.services[0].channel).delete("films/gone")

    for replica in (1, 0):
        hits = library.search(replica, frame=frame, page_size=100).hits
        assert hits and all(hit.film != "films/gone" for hit in hits)
        pairs = library.duplicates(replica, min_similarity=0.5).pairs
        assert not any("films/gone" in (pair.first.film, pair.second.film) for pair in pairs)
    wait_for(
        lambda: all(
            service.metric("refilm_index_films", model="pca", version="2")
            == library.search(number, frame=frame).films_searched
            for number, service in enumerate(library.services)
        ),
        "the rows to be dropped",
    )


def test_what_is_searched_is_counted(library: SearchLibrary) -> None:
    service = library.services[0]
    before = service.metric("refilm_search_seconds_count", method="SearchFrames")

    library.search(moment=moment("films/first", 1.0))

    assert service.metric("refilm_search_seconds_count", method="SearchFrames") == before + 1
    # 20 s of which 5 are black, a row a second and the last.
    assert service.metric("refilm_index_rows", model="pca", version="2") > 12
