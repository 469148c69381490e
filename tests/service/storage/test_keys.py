"""Which keys there can be: no key leads out of a store, or to what it hides."""

import pytest

from service.storage.keys import (
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    check_folder,
    check_key,
    check_prefix,
    is_name,
)

LONGEST = "/".join(["n" * 99] * 9)


@pytest.mark.parametrize("name", ["a", "Z9", "_", "~x", "-", "a.b", "000001.m4s", "n" * 255])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".writing", "a b", "ä", "a/b", "a\n", "n" * 256])
def test_no_names(name: str) -> None:
    assert not is_name(name)


def test_limits() -> None:
    assert (len(LONGEST), MAX_KEY_BYTES, MAX_NAME_BYTES) == (899, 900, 255)
    check_key(LONGEST + "n")
    check_prefix(LONGEST + "n")
    for check in (check_key, check_prefix):
        with pytest.raises(ValueError, match="of the library"):
            check(LONGEST + "nn")


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a//b", "../a", "a/../b", "a/.b", "a/b "])
def test_no_keys(key: str) -> None:
    with pytest.raises(ValueError, match="not a key of the library"):
        check_key(key)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "films/a/b.c"])
def test_prefixes(prefix: str) -> None:
    check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["/", "/a", "a//", "..", "../", "a/.", "a/../", ".a", "a/.b/c"])
def test_no_prefixes(prefix: str) -> None:
    with pytest.raises(ValueError, match="not a prefix of a key of the library"):
        check_prefix(prefix)


def test_a_folder_ends_with_a_slash_or_is_empty() -> None:
    check_folder("")
    check_folder("films/a/")
    for prefix in ("films", "films/a"):
        with pytest.raises(ValueError, match="not a folder of the library"):
            check_folder(prefix)
