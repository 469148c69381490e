"""Looks whether stored bytes are a film, and what it is."""

from film.errors import FilmCancelledError, FilmError
from film.facts import FilmFacts
from film.first_bytes import refuse_others
from film.read.film_reader import FilmReader
from service.errors import InvalidFieldError
from service.library.film_source import SourceFile

HEAD_BYTES = 512
"""What `check_head` wants to see, where there is as much."""


def check_head(head: bytes) -> None:
    """Refuse what is certainly no film by its first bytes; raises InvalidFieldError."""
    try:
        refuse_others(head)
    except FilmError as error:
        raise film_refused(error) from None


def probe(file: SourceFile) -> FilmFacts:
    """Return what a film is, once its first picture was decoded.

    Raises InvalidFieldError with the reason where it is none, FilmCancelledError, and what reading
    the file raises.
    """
    try:
        with FilmReader(file) as reader:
            return reader.facts
    except FilmCancelledError:
        raise
    except FilmError as error:
        raise film_refused(error) from None


def film_refused(error: FilmError) -> InvalidFieldError:
    """Return the caller's error for bytes that are no film."""
    return InvalidFieldError("chunk", str(error), reason=error.reason)
