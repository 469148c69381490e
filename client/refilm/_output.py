"""The file that a call writes: complete under its name, or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol


class WritableFile(Protocol):
    """Anything that writes bytes."""

    def write(self, data: bytes, /) -> object:
        """Writes all of `data`."""


FilmSink = str | os.PathLike[str] | WritableFile
"""A path to write to, or a file object."""


class Output:
    """A file that appears under its name when it is complete: `with Output(path) as output`.

    It is written beside the path and renamed by `commit()`; `keep()` keeps the incomplete file
    as "<stem>.partial<suffix>" instead; otherwise nothing is left. A file object is written to
    directly.

    Raises:
        OSError: The file cannot be written at its path.
    """

    def __init__(self, out: FilmSink) -> None:
        self._path: Path | None = None
        self._temporary: Path | None = None
        self._file: IO[bytes] | None = None
        self._sink: WritableFile
        self.written = 0
        """Bytes so far."""
        if isinstance(out, (str, os.PathLike)):
            self._path = Path(out)
            if self._path.is_dir():
                raise IsADirectoryError(f"{self._path} is a directory; name a file in it")
            self._temporary = self._path.with_name(
                f".{self._path.name}.{secrets.token_hex(4)}.unfinished"
            )
            self._file = self._temporary.open("xb")
            self._sink = self._file
        else:
            self._sink = out

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def file(self) -> IO[bytes]:
        """The file under the path, for writers that seek; raises ValueError if there is none."""
        if self._file is None:
            raise ValueError("this output is a file object of the caller's")
        return self._file

    def replaces(self, facts: os.stat_result | None) -> bool:
        """Returns whether the file with this stat result is the one at the path."""
        if facts is None or self._path is None or not self._path.exists():
            return False
        return os.path.samestat(facts, self._path.stat())

    def write(self, data: bytes) -> None:
        """Writes the next bytes."""
        self._sink.write(data)
        self.written += len(data)

    def commit(self) -> None:
        """Moves the file to its name, replacing any earlier file."""
        if self._path is not None:
            self._finish(self._path)

    def keep(self) -> Path | None:
        """Moves the incomplete file to the partial name; returns that, or None if it is empty."""
        if self._path is None or not self.written:
            return None
        partial = self._path.with_name(f"{self._path.stem}.partial{self._path.suffix}")
        self._finish(partial)
        return partial

    def discard(self) -> None:
        """Removes what was neither committed nor kept."""
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def _finish(self, path: Path) -> None:
        if self._file is None or self._temporary is None:
            return
        self._file.flush()
        # Otherwise a crash of the machine can leave an empty file under the name.
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(path)
        self._temporary = None
