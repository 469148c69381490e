"""Writes latents to a .npy or .npz file as they arrive."""

from __future__ import annotations

import os
import tempfile
import zipfile
from array import array
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

from refilm import _arrays
from refilm._output import Output
from refilm._values import FilmFacts, LatentBatch, ModelIdentity

_COPY_BYTES = 1 << 20


class LatentsFile:
    """A file of latents that appears when it is complete: `with LatentsFile(path) as latents`.

    A .npy holds [N, 200] float32. A .npz holds that as `latents`, and `pts` [N] int64,
    `time_base` [2] int64 (numerator, denominator of a second), `model`, `version` and `digest`.

    Raises:
        ValueError: The path ends in neither .npy nor .npz.
        OSError: The file cannot be written at its path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._suffix = Path(path).suffix
        if self._suffix not in (".npy", ".npz"):
            raise ValueError(f"latents are saved as .npy or .npz, not as {Path(path).name!r}")
        self._output = Output(path)
        # A .npz's members follow one another, and each begins with its length.
        self._rows: IO[bytes] = self._output.file
        if self._suffix == ".npz":
            self._rows = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__
        self._pts = array("q")
        self._count = 0
        self._width = 0
        self._rows.write(_arrays.header("<f4", (0, 0)))

    def __enter__(self) -> LatentsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()
        self._output.discard()

    def write(self, batch: LatentBatch) -> None:
        """Adds the latents of consecutive frames."""
        self.write_rows(batch.latents)
        self._pts.extend(batch.pts)

    def write_rows(self, rows: Iterable[Iterable[float]]) -> None:
        """Adds latents that belong to no film."""
        for row in rows:
            values = array("f", row)
            self._width = len(values)
            self._output.written += self._rows.write(_arrays.to_bytes(values))
            self._count += 1

    def commit(self, model: ModelIdentity, film: FilmFacts | None = None) -> None:
        """Moves the file to its name."""
        self._complete(model, film)
        self._output.commit()

    def keep(self, model: ModelIdentity, film: FilmFacts | None = None) -> Path | None:
        """Moves the incomplete file to the partial name; returns that, or None if it is empty."""
        if not self._count:
            return None
        self._complete(model, film)
        return self._output.keep()

    def _complete(self, model: ModelIdentity, film: FilmFacts | None) -> None:
        self._rows.seek(0)
        self._rows.write(_arrays.header("<f4", (self._count, self._width)))
        if self._suffix == ".npy":
            return
        self._rows.seek(0)
        with zipfile.ZipFile(self._output.file, "w") as archive:
            member = f"{_arrays.MEMBER_LATENTS}.npy"
            with archive.open(member, "w", force_zip64=True) as target:
                while data := self._rows.read(_COPY_BYTES):
                    target.write(data)
            if film is not None:
                base = film.time_base
                archive.writestr("pts.npy", _arrays.npy(self._pts))
                archive.writestr(
                    "time_base.npy", _arrays.npy(array("q", [base.numerator, base.denominator]))
                )
            archive.writestr("model.npy", _arrays.npy_text(model.name))
            archive.writestr("version.npy", _arrays.npy(array("q", [model.version]), ()))
            archive.writestr("digest.npy", _arrays.npy_text(model.digest))
