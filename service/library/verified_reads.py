"""Reads that return exactly the expected bytes, or raise DamagedError."""

import hashlib
from collections.abc import Iterator
from contextlib import closing

import grpc

from service.errors import Resource, ServerSideError
from service.storage.objects import ObjectNotFoundError, ObjectStore


class DamagedError(ServerSideError):
    """Stored data of a film is damaged."""

    code = grpc.StatusCode.DATA_LOSS
    reason = "STORED_DATA_DAMAGED"

    def __init__(self, film: str, what: str) -> None:
        """`film`: its id. `what`: the part and what is wrong with it, without keys."""
        name = f"films/{film}"
        super().__init__(
            f"what is stored of {name} is damaged: {what}; delete the film and store it again",
            resource=Resource("film", name),
        )


def exact_pieces(
    store: ObjectStore, key: str, start: int, size: int, *, film: str, what: str
) -> Iterator[bytes]:
    """Yield `size` bytes from `start`, at most 1 MiB at a time.

    `film` (its id) and `what` ("part 3 of the latents") are for the DamagedError that is raised
    if the object is missing or too short.
    """
    if not size:
        return
    left = size
    try:
        with closing(store.read(key, start, size)) as pieces:
            for piece in pieces:
                left -= len(piece)
                yield piece
    except ObjectNotFoundError:
        raise DamagedError(film, f"{what} is missing") from None
    if left:
        raise DamagedError(film, f"{what} is shorter than it was written")


def exact_bytes(
    store: ObjectStore, key: str, start: int, size: int, *, film: str, what: str
) -> bytes:
    """Return `size` bytes from `start`; otherwise as `exact_pieces`."""
    return b"".join(exact_pieces(store, key, start, size, film=film, what=what))


def checked(
    pieces: Iterator[bytes], digest: str, *, beginning: bytes = b"", film: str, what: str
) -> Iterator[bytes]:
    """Yield `pieces`, and raise DamagedError after the last unless their digest is `digest`.

    `digest`: SHA-256, 64 hexadecimal digits, over `beginning` (not yielded) and all pieces.
    """
    found = hashlib.sha256(beginning)
    for piece in pieces:
        found.update(piece)
        yield piece
    if found.hexdigest() != digest:
        raise DamagedError(film, f"{what} is not what was written")
