"""Page tokens: ours are read again, and whatever else comes is refused at once."""

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from service.errors import InvalidFieldError
from service.rpc.pages import FilmId, PageTokens, page_size
from service.rpc.search_query import _TOKENS as FRAMES
from service.rpc.search_query import _Following
from service.search.engine import DEEPEST, Place

FILMS: PageTokens[str] = PageTokens("films", TypeAdapter(FilmId))
DIGEST = "sha256:" + "0" * 64
EMBEDDINGS = base64.b64encode(bytes(400)).decode()
FOLLOWING = {
    "digest": DIGEST,
    "flat": False,
    "embeddings": EMBEDDINGS,
    "after": [0.25, "bunny", 7],
    "depth": 50,
}


def forged(tokens: PageTokens[Any], content: object, *chosen_by: str) -> str:
    """Make a token as somebody does who has read how they are made."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(tokens._checksum(data, chosen_by) + data).decode()


def refused(tokens: PageTokens[Any], token: str, *chosen_by: str) -> bool:
    with pytest.raises(InvalidFieldError) as error:
        tokens.after(token, *chosen_by)
    assert [violation.field for violation in error.value.violations] == ["page_token"]
    return error.value.reason == "INVALID_PAGE_TOKEN"


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.lists(st.text()))
def test_a_token_means_the_item_that_it_was_made_of(item: str, chosen_by: list[str]) -> None:
    token = FILMS.token(item, *chosen_by)
    assert FILMS.after(token, *chosen_by) == item
    assert FILMS.after("", *chosen_by) is None


def test_a_token_belongs_to_one_list() -> None:
    token = FILMS.token("bunny", "a filter")
    others: PageTokens[str] = PageTokens("others", TypeAdapter(FilmId))
    assert refused(FILMS, token, "another")
    assert refused(FILMS, token)
    assert refused(FILMS, token, "a filter", "")
    assert refused(others, token, "a filter")


@given(st.data())
def test_a_token_that_was_tampered_with_is_refused(data: st.DataObject) -> None:
    token = FILMS.token("bunny")
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters().filter(lambda letter: letter != token[place]))
    assert refused(FILMS, token[:place] + letter + token[place + 1 :])


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    if text:
        assert refused(FILMS, text)


@pytest.mark.parametrize(
    "content", ["../x", "", "Bunny", "a" * 64, "bunny\n", 7, None, ["bunny"], {}, b"{", b"\xff"]
)
def test_a_forged_position_is_refused(content: object) -> None:
    assert FILMS.after(forged(FILMS, "bunny")) == "bunny"
    assert refused(FILMS, forged(FILMS, content))


@pytest.mark.parametrize(
    "changed",
    [
        {"depth": DEEPEST + 1},
        {"depth": 200_000_000},
        {"depth": 0},
        {"depth": 50.5},
        {"depth": True},
        {"digest": "sha256:../x"},
        {"after": [0.25, "../x", 7]},
        {"after": [0.25, "bunny", -1]},
        {"after": [0.25, "bunny", 2**31]},
        {"after": [1e300, "bunny", 7]},
        {"after": [None, "bunny", 7]},
        {"after": []},
        {"embeddings": "A" * 4096},
        {"flat": "no"},
    ],
)
def test_a_forged_query_is_refused(changed: dict[str, object]) -> None:
    kept = FRAMES.after(forged(FRAMES, FOLLOWING, "query"), "query")
    assert isinstance(kept, _Following) and Place(*kept.after) == Place(0.25, "bunny", 7)
    assert refused(FRAMES, forged(FRAMES, FOLLOWING | changed, "query"), "query")


@pytest.mark.parametrize("embeddings", ["", "AAAA", base64.b64encode(b"\xff" * 400).decode(), "!"])
def test_embeddings_that_are_none_are_refused(embeddings: str) -> None:
    token = forged(FRAMES, FOLLOWING | {"embeddings": embeddings}, "query")
    following = FRAMES.after(token, "query")
    assert following is not None
    with pytest.raises(ValueError):  # whichever of what is wrong is found first
        following.vectors()


@pytest.mark.parametrize("deep", [b"[" * 5000, b'{"a":' * 1000, b"9" * 6000, b'"' + b"x" * 100_000])
def test_deep_and_long_ones_cost_nothing(deep: bytes) -> None:
    tracemalloc.start()
    try:
        assert refused(FRAMES, forged(FRAMES, deep, "query"), "query")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_page_sizes() -> None:
    assert [page_size(0), page_size(7), page_size(201)] == [50, 7, 200]
    assert [page_size(0, 10, 100), page_size(101, 10, 100)] == [10, 100]
    with pytest.raises(InvalidFieldError, match="must not be negative"):
        page_size(-1)
