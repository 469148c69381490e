"""Pages of lists (AIP-158): sizes, and tokens that say where the next page begins.

A token belongs to one list: to its parent, its filter, whatever chooses its items. With another it
is refused.
"""

import base64
import binascii
import hashlib
import json

from service.errors import InvalidFieldError

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


def page_size(value: int) -> int:
    """Return how many items a request's page_size means at most; raises InvalidFieldError."""
    if value < 0:
        raise InvalidFieldError(
            "page_size", f"is {value}; must not be negative", reason="INVALID_PAGE_SIZE"
        )
    return min(value or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(after: str, *chosen_by: str) -> str:
    """Return the token of the page that follows the item `after` of the list so chosen."""
    content = json.dumps([after, _digest(chosen_by)]).encode()
    return base64.urlsafe_b64encode(content).decode()


def page_begins_after(token: str, *chosen_by: str) -> str:
    """Return the item that a request's page_token stands for; "" for the first page.

    Raises InvalidFieldError for a token that is none of ours, or of another list.
    """
    if not token:
        return ""
    try:
        after, digest = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        after = digest = None
    if not isinstance(after, str) or not isinstance(digest, str):
        raise InvalidFieldError(
            "page_token",
            "is none of ours; pass the next_page_token of the page before, unchanged",
            reason="INVALID_PAGE_TOKEN",
        )
    if digest != _digest(chosen_by):
        raise InvalidFieldError(
            "page_token",
            "is of another list; pass it with the same filter and parent as the page before",
            reason="INVALID_PAGE_TOKEN",
        )
    return after


def _digest(chosen_by: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(chosen_by).encode()).hexdigest()[:16]
