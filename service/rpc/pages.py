"""Pagination of lists (AIP-158): page sizes, and tokens for where the next page begins.

A token is opaque to callers and bound to one list: its kind, parent, filter and whatever else
selects its items. Its content is validated, since a caller may forge one: the checksum detects
accidental changes, and each list defines which positions are valid.
"""

import base64
import binascii
import hashlib
import json
from typing import Annotated, Final, Generic, TypeVar

from pydantic import StringConstraints, TypeAdapter, ValidationError

from service.errors import InvalidFieldError
from service.library import layout

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200

_MAX_CHARACTERS: Final = 8192
"""The longest token that is decoded; ours are less than a quarter as long."""
_CHECKSUM_BYTES: Final = 12

FilmId = Annotated[str, StringConstraints(pattern=f"^{layout.FILM_ID.pattern}$")]
"""A film's id in a token: it becomes part of a key."""

Position = TypeVar("Position")


def page_size(value: int, default: int = DEFAULT_PAGE_SIZE, largest: int = MAX_PAGE_SIZE) -> int:
    """Return the maximum number of items for a request's page_size; raises InvalidFieldError."""
    if value < 0:
        raise InvalidFieldError(
            "page_size", f"is {value}; must not be negative", reason="INVALID_PAGE_SIZE"
        )
    return min(value or default, largest)


class PageTokens(Generic[Position]):
    """The tokens of one kind of list: each has the item after which the next page begins."""

    def __init__(self, kind: str, position: TypeAdapter[Position]) -> None:
        """Make tokens of `kind`; `position` validates a token's content."""
        self._kind = kind
        self._position = position

    def token(self, after: Position, *chosen_by: str) -> str:
        """Return the token of the page after the item `after`; `chosen_by` identifies the list."""
        content = self._position.dump_json(after)
        return base64.urlsafe_b64encode(self._checksum(content, chosen_by) + content).decode()

    def after(self, token: str, *chosen_by: str) -> Position | None:
        """Return the item in a request's page_token; None for the first page.

        Raises InvalidFieldError for an invalid token, or one of another list.
        """
        if not token:
            return None
        if len(token) > _MAX_CHARACTERS:
            raise refused_token()
        try:
            decoded = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise refused_token() from None
        if base64.urlsafe_b64encode(decoded).decode() != token:
            # The last character has unused bits.
            raise refused_token()
        checksum, content = decoded[:_CHECKSUM_BYTES], decoded[_CHECKSUM_BYTES:]
        if checksum != self._checksum(content, chosen_by):
            raise refused_token()
        try:
            return self._position.validate_json(content, strict=True)
        except ValidationError:
            raise refused_token() from None

    def _checksum(self, content: bytes, chosen_by: tuple[str, ...]) -> bytes:
        chosen = json.dumps([self._kind, *chosen_by]).encode()
        return hashlib.sha256(hashlib.sha256(chosen).digest() + content).digest()[:_CHECKSUM_BYTES]


def refused_token() -> InvalidFieldError:
    """Return the error for an invalid page token."""
    return InvalidFieldError(
        "page_token",
        "is none of ours, or of another list; pass the next_page_token of the page before, "
        "unchanged, and the same parent, filter and query with it",
        reason="INVALID_PAGE_TOKEN",
    )
