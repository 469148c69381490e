"""The valid keys, in a bucket and in a folder alike."""

import re

MAX_KEY_BYTES = 900
MAX_NAME_BYTES = 255

# No leading ".": excludes "." and "..", and the folder store's hidden files.
_NAME = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")


def is_name(name: str) -> bool:
    """Return whether `name` is valid between the slashes of a key."""
    return len(name) <= MAX_NAME_BYTES and _NAME.fullmatch(name) is not None


def check_key(key: str) -> None:
    """Raise ValueError for an invalid key."""
    if len(key) > MAX_KEY_BYTES or not all(map(is_name, key.split("/"))):
        raise ValueError(f"not a key of the library: {key!r}")


def check_prefix(prefix: str) -> None:
    """Raise ValueError for a prefix that no valid key can have."""
    *folders, rest = prefix.split("/")
    if len(prefix) > MAX_KEY_BYTES or not all(map(is_name, [*folders, rest or "-"])):
        raise ValueError(f"not a prefix of a key of the library: {prefix!r}")


def check_folder(prefix: str) -> None:
    """Raise ValueError unless `prefix` is a folder: empty, or a prefix that ends with "/"."""
    check_prefix(prefix)
    if prefix and not prefix.endswith("/"):
        raise ValueError(f"not a folder of the library: {prefix!r}")
