"""What can be wrong with a film. Messages are fit for a caller: no path, no library's stack."""


class FilmError(Exception):
    """A film cannot be read (further); `reason` is stable and fit for machines."""

    reason = "FILM_UNREADABLE"


class NotAFilmError(FilmError):
    """The bytes are no film: no known container, or nothing in it can be read."""

    reason = "NOT_A_FILM"


class NoPictureError(FilmError):
    """The film has no moving picture: sound only, a still picture, cover art only."""

    reason = "NO_MOVING_PICTURE"


class TruncatedFilmError(FilmError):
    """The film breaks off; what came before was delivered."""

    reason = "FILM_TRUNCATED"


class DamagedFilmError(FilmError):
    """The film cannot be decoded from some point on; what came before was delivered."""

    reason = "FILM_DAMAGED"


class FilmLimitError(FilmError):
    """The film is larger than allowed: its pictures, its frames, its bytes."""

    reason = "FILM_TOO_LARGE"


class SpoolFullError(FilmError):
    """The spool has no room for more film bytes now (the total limit, or the disk)."""

    reason = "SPOOL_FULL"


class FilmCancelledError(FilmError):
    """Reading was cancelled; raised in the thread that was waiting for bytes."""

    reason = "CANCELLED"


class ImageError(Exception):
    """A picture cannot be read; the message says what was wrong and what would be right."""
