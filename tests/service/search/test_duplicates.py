"""FindDuplicates over a socket: passages planted in films, found again to the frame."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from refilm.v1 import latents_pb2 as pb

from tests.service.search.library import SearchLibrary, span
from tests.support.shots import BLACK, FRAME_RATE, Shot
from tests.support.status import error_of

FRAME = 1 / FRAME_RATE
PASSAGE = [Shot(200, 2.5), Shot(201, 3.25, drift=1.0), Shot(202, 2.0)]

# The passage from 5.5 s on; a still; black; a shot that comes back.
ONE = [
    Shot(210, 5.5),
    *PASSAGE,
    Shot(211, 3.0),
    Shot(212, 20.0, drift=0.0),
    Shot(BLACK, 6.0),
    Shot(213, 4.0),
    Shot(214, 5.0),
    Shot(213, 4.0),
]
# The passage from 8.75 s on, a third of a second out of step, and the same black.
TWO = [Shot(220, 8.75), *PASSAGE, Shot(BLACK, 6.0), Shot(221, 4.0)]
# A still that is twice there, and a second of the passage: too short.
THREE = [
    Shot(230, 3.0, drift=0.0),
    Shot(231, 4.0),
    Shot(230, 5.0, drift=0.0),
    Shot(200, 1.0),
    Shot(232, 3.0),
]


@pytest.fixture(scope="module")
def library(search_library: SearchLibrary) -> SearchLibrary:
    for film, shots in (("a-one", ONE), ("b-two", TWO), ("c-three", THREE)):
        search_library.store(film, shots)
    search_library.wait_for_index("films/a-one", "films/b-two", "films/c-three")
    return search_library


def spans(pair: pb.DuplicatePair) -> list[tuple[str, float, float]]:
    return [span(pair.first), span(pair.second)]


def about(film: str, start: float, stop: float) -> tuple[str, object, object]:
    """A passage, to the frame before or after."""
    near = 1.01 * FRAME
    return film, pytest.approx(start, abs=near), pytest.approx(stop, abs=near)


def test_planted_passages_are_found_longest_first(library: SearchLibrary) -> None:
    answer = library.duplicates()

    assert [spans(pair) for pair in answer.pairs] == [
        [about("films/a-one", 5.5, 13.25), about("films/b-two", 8.75, 16.5)],
        [about("films/a-one", 42.25, 46.25), about("films/a-one", 51.25, 55.25)],
        [about("films/c-three", 0.0, 3.0), about("films/c-three", 7.0, 10.0)],
    ]
    assert all(pair.similarity > 0.98 for pair in answer.pairs)
    assert answer.pairs[0].first.title == "A-One"
    assert answer.model.digest == library.models[2].digest
    assert not answer.next_page_token


def test_shorter_passages_on_request(library: SearchLibrary) -> None:
    second = Duration(nanos=900_000_000, seconds=0)
    too_short = error_of(lambda: library.duplicates(min_duration=second))
    pairs = library.duplicates(min_duration=Duration(seconds=1), films=["films/c-three"]).pairs

    assert too_short.reason == "INVALID_MIN_DURATION"
    found = [spans(pair) for pair in pairs]
    assert [about("films/a-one", 5.5, 6.5), about("films/c-three", 12.0, 13.0)] in [
        sorted(pair) for pair in found
    ]
    assert all("films/c-three" in (pair.first.film, pair.second.film) for pair in pairs)


def test_one_film_of_two_is_enough(library: SearchLibrary) -> None:
    pairs = library.duplicates(films=["films/b-two"]).pairs

    assert [sorted(spans(pair)) for pair in pairs] == [
        [about("films/a-one", 5.5, 13.25), about("films/b-two", 8.75, 16.5)]
    ]


def test_pages_make_the_whole_list(library: SearchLibrary) -> None:
    whole = list(library.duplicates().pairs)

    paged: list[pb.DuplicatePair] = []
    token = ""
    for number in range(len(whole)):
        # From one replica and the other in turn: the token holds all that is needed.
        answer = library.duplicates(number % 2, page_size=1, page_token=token)
        paged += answer.pairs
        token = answer.next_page_token

    assert paged == whole and not token


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"min_similarity": 0.2}, "min_similarity", "INVALID_MIN_SIMILARITY"),
        ({"min_similarity": 1.2}, "min_similarity", "INVALID_MIN_SIMILARITY"),
        ({"min_duration": Duration(nanos=5)}, "min_duration", "INVALID_MIN_DURATION"),
        ({"page_size": -1}, "page_size", "INVALID_PAGE_SIZE"),
        ({"films": ["x"]}, "films[0]", "INVALID_NAME"),
        ({"page_token": "nonsense"}, "page_token", "INVALID_PAGE_TOKEN"),
    ],
)
def test_faults_are_named(
    library: SearchLibrary, fields: dict[str, Any], field: str, reason: str
) -> None:
    error = error_of(lambda: library.duplicates(**fields))

    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    assert (list(error.fields), error.reason) == ([field], reason)
