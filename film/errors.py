"""Errors of films and pictures. Messages are safe to show callers: no paths, no stack traces."""


class FilmError(Exception):
    """A film cannot be read, or not to its end; `reason` is stable and machine-readable."""

    reason = "FILM_UNREADABLE"


class NotAFilmError(FilmError):
    """The bytes are not a film: an unknown container, or one without readable content."""

    reason = "NOT_A_FILM"


class NoPictureError(FilmError):
    """The film has no moving picture: sound only, a still picture, cover art only."""

    reason = "NO_MOVING_PICTURE"


class TruncatedFilmError(FilmError):
    """The film is truncated; what came before was delivered."""

    reason = "FILM_TRUNCATED"


class DamagedFilmError(FilmError):
    """The film cannot be decoded from some point on; what came before was delivered."""

    reason = "FILM_DAMAGED"


class FilmLimitError(FilmError):
    """The film is over a limit: of pictures, bytes or time."""

    reason = "FILM_TOO_LARGE"

    def __init__(self, message: str, limit: str = "") -> None:
        """`limit` is the name of a field in `film.limits`."""
        super().__init__(message)
        self.limit = limit
        if limit:
            self.reason = f"FILM_LIMIT_{limit.upper()}"


class FilmCrashedError(FilmError):
    """A codec crashed on the film, or violated the sandbox; its process is gone."""

    reason = "FILM_CRASHED"


class SpoolFullError(FilmError):
    """The spool has no room for more film bytes now (the total limit, or the disk)."""

    reason = "SPOOL_FULL"


class FilmProcessLostError(Exception):
    """A film's process ended through no fault of the film's, or none can be started."""


class ImageError(Exception):
    """A picture cannot be read; the message says what was wrong and what would be right."""

    reason = "INVALID_IMAGE"


class ImageLimitError(ImageError):
    """A picture is over a limit."""

    def __init__(self, message: str, limit: str) -> None:
        """`limit` is the name of a field of `film.limits.PictureLimits`."""
        super().__init__(message)
        self.limit = limit
        self.reason = f"PICTURE_LIMIT_{limit.upper()}"


class ImageCrashedError(ImageError):
    """A codec crashed on the picture, or violated the sandbox; its process is gone."""

    reason = "PICTURE_CRASHED"


class PictureProcessesBusyError(Exception):
    """Too many pictures are waiting for a process."""


class PictureProcessLostError(Exception):
    """A picture's process ended through no fault of the picture's, or none can be started."""
