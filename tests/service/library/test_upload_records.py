"""What an upload is called, and what its film will be."""

import re

import pytest

from service.library import layout
from service.library.upload_records import UploadRecord, UploadSettings, slug, upload_key
from service.storage.keys import is_name


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Big Buck Bunny", "big-buck-bunny"),
        ("  A Scanner  Darkly (2006)! ", "a-scanner-darkly-2006"),
        ("Ünïcode ☂ Ægir", "unicode-gir"),
        ("☂", ""),
        ("---", ""),
        ("", ""),
        ("a" * 50, "a" * 40),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_a_title_becomes_a_slug(title: str, expected: str) -> None:
    assert slug(title) == expected


@pytest.mark.parametrize("upload_id", ["a", "A.b-c_9", ".hidden", "..", "x" * 64])
def test_any_upload_id_is_a_name_in_the_bucket(upload_id: str) -> None:
    assert is_name(upload_key(upload_id))
    assert upload_key(upload_id).removeprefix("~") == upload_id


def test_a_new_upload_has_the_film_id_asked_for_or_one_of_its_title() -> None:
    given = UploadRecord.new(UploadSettings("up", "my-film", "A Title"), by_url=True)
    assert (given.upload, given.film_id, given.by_url, given.is_anonymous) == (
        "up",
        "my-film",
        True,
        False,
    )
    for title, pattern in (("A Title", r"a-title-[0-9a-f]{8}"), ("☂", r"film-[0-9a-f]{8}")):
        made = UploadRecord.new(UploadSettings(title=title), by_url=False)
        assert re.fullmatch(pattern, made.film_id)
        assert layout.FILM_ID.fullmatch(made.film_id)
        assert made.is_anonymous and re.fullmatch(r"~[0-9a-f]{32}", made.upload)
    assert UploadRecord.new(UploadSettings(), by_url=False).uid != made.uid
