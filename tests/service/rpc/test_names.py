"""Resource names: what is made is read again, and nothing else is a name."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidFieldError
from service.library import layout
from service.rpc import names

films = st.from_regex(layout.FILM_ID, fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
renditions = st.from_regex(r"[0-9a-f]{64}-[0-9a-f]{16}", fullmatch=True)
jobs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,127}", fullmatch=True)
PARSERS: list[Callable[[str, str], object]] = [
    names.parse_model_name,
    names.parse_upload_name,
    names.parse_film_name,
    names.parse_rendition_name,
    names.parse_latents_name,
    names.parse_reconstruction_name,
    names.parse_download_name,
]


@settings(max_examples=50, deadline=None)
@given(film=films, digest=digests, rendition=renditions, job=jobs)
def test_what_is_made_is_read_again(film: str, digest: str, rendition: str, job: str) -> None:
    whole = names.film_name(film)
    assert names.parse_film_name(whole, "name") == film
    assert names.parse_parent_name(whole, "parent") == film
    one = names.rendition_name(film, rendition)
    assert names.parse_rendition_name(one, "name") == (film, rendition)
    other = names.latents_name(film, f"sha256:{digest}")
    assert other == names.latents_name(film, digest)
    assert names.parse_latents_name(other, "name") == (film, f"sha256:{digest}")
    made = names.reconstruction_name(film, job)
    assert names.parse_reconstruction_name(made, "name") == (film, job)
    for name, told in (
        (whole, film),
        (one, (film, rendition)),
        (other, (film, f"sha256:{digest}")),
    ):
        assert names.parse_download_name(name, "name") == told


@pytest.mark.parametrize(
    ("name", "model", "version"),
    [
        ("", "", 0),
        ("models/pca", "pca", 0),
        ("models/pca/versions/7", "pca", 7),
        ("models/-", "", 0),
        ("models/-/versions/3", "", 3),
        ("models/_a.b-C9", "_a.b-C9", 0),
    ],
)
def test_a_version_s_name_may_leave_out_what_has_a_default(
    name: str, model: str, version: int
) -> None:
    assert names.parse_version_name(name, "model") == (model, version)


@pytest.mark.parametrize(
    "name",
    [
        "pca",
        "models/",
        "models/.hidden",
        "models/a/b",
        "models/pca/versions/0",
        "models/pca/versions/01",
        "models/pca/versions/1234567890",
        "models/pca/versions/\N{ARABIC-INDIC DIGIT SEVEN}",
        "models/pca\n",
    ],
)
def test_what_is_no_version_s_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidFieldError, match=re.escape("models/{model}")) as error:
        names.parse_version_name(name, "settings.model")
    assert error.value.reason == "INVALID_NAME"


def test_all_films_are_a_parent_and_no_film() -> None:
    assert names.parse_parent_name(names.ALL_FILMS, "parent") is None
    with pytest.raises(InvalidFieldError):
        names.parse_film_name(names.ALL_FILMS, "name")


@pytest.mark.parametrize("parse", PARSERS)
def test_an_empty_name_and_one_that_would_leave_its_folder_are_refused(
    parse: Callable[[str, str], object],
) -> None:
    with pytest.raises(InvalidFieldError) as error:
        parse("", "name")
    assert error.value.reason == "NAME_REQUIRED"
    for name in ("films/../x", "films/a/../b", "uploads/", "films/A", "films/a\n", "films/a/", "x"):
        with pytest.raises(InvalidFieldError) as error:
            parse(name, "name")
        assert error.value.reason == "INVALID_NAME"


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidFieldError) as error:
        names.parse_film_name("films/" + "a" * 100_000, "name")
    assert len(str(error.value)) < 500
