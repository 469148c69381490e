# Made of refilm/aio/_stored_latents.py by `make proto`: edit that.
"""The latents of the library's films, and interpolation between them."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from refilm import _question_wire as wire
from refilm._calls import Calls
from refilm._errors import InternalError
from refilm._film_values import Film
from refilm._names import film_name
from refilm._output import FilmSink, Output
from refilm._platform import blocking
from refilm._question_values import FilmLatents, InterpolationMode, LatentsFormat, PictureFormat
from refilm._times import Seconds
from refilm._values import ModelIdentity, Picture
from refilm._wire import choice, identity, selector
from refilm.v1 import latents_pb2 as pb

if TYPE_CHECKING:
    from refilm._question_wire import MomentQuery
    from refilm._wire import LatentSource


class StoredLatentsCalls(Calls):
    """The part of the client that exports latents and interpolates between them."""

    def latents(
        self,
        film: str | Film,
        *,
        start: Seconds | None = None,
        end: Seconds | None = None,
        stride: int = 1,
        embeddings: bool = False,
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> Generator[FilmLatents]:
        """Yields a film's latents in batches, in presentation order.

        Args:
            film: Which.
            start: The first time; None for the film's start.
            end: The end, not included; None for the film's end.
            stride: The step in frames; 1 for every frame.
            embeddings: Whether to yield the embeddings as well.
            model: As for `encode`.
            version: As for `encode`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            NotFoundError: The library has no such film, or the service no such model.
            PreconditionError: The film has no latents of this model.
            RefilmError: The call failed for another reason.
            ValueError: The end lies before the start, or the stride is below 1.
        """
        if stride < 1:
            raise ValueError(f"stride counts frames, from 1, not {stride}")
        request = pb.ListLatentsRequest(
            film=film_name(film),
            model=selector(model, version),
            range=wire.time_range(start, end),
            stride=stride,
            include_embeddings=embeddings,
        )
        answers = self._transport.answers(self._latents.ListLatents, request, timeout)
        with closing(answers):
            for message in answers:
                yield wire.film_latents(message)

    def export_latents(
        self,
        film: str | Film,
        out: FilmSink,
        *,
        format: LatentsFormat | None = None,
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> int:
        """Writes a film's latents to one file for a notebook; returns its size in bytes.

        Args:
            film: Which.
            out: A path, which is written atomically, or a file object.
            format: "npy", [frames, 200] float32, or "arrow", an Arrow IPC stream with the columns
                pts, seconds and latent. None for what the path's suffix says.
            model: As for `encode`.
            version: As for `encode`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            NotFoundError: The library has no such film, or the service no such model.
            PreconditionError: The film has no latents of this model.
            RefilmError: The call failed for another reason.
            ValueError: The format is unknown.
            OSError: The file cannot be written.
        """
        if format is None:
            named = isinstance(out, (str, os.PathLike))
            suffix = Path(out).suffix if isinstance(out, (str, os.PathLike)) else ""
            format = "arrow" if named and suffix in (".arrow", ".arrows") else "npy"
            if named and suffix not in (".npy", ".arrow", ".arrows"):
                raise ValueError("latents are exported as .npy or .arrow: name the format")
        request = pb.ExportLatentsRequest(
            film=film_name(film),
            model=selector(model, version),
            format=choice("format", wire.LATENTS_FORMATS, format),
        )
        with Output(out) as output:
            answers = self._transport.answers(self._latents.ExportLatents, request, timeout)
            with closing(answers):
                for message in answers:
                    blocking(output.write, message.chunk)
            blocking(output.commit)
            return output.written

    def interpolate(
        self,
        first: LatentSource | MomentQuery,
        last: LatentSource | MomentQuery,
        *,
        steps: int = 24,
        mode: InterpolationMode = "linear",
        format: PictureFormat = "jpeg",
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> Generator[Picture]:
        """Yields interpolated pictures from one moment or latent to another.

        Args:
            first: The first picture: a film and a time in it, an `Encoding`, or 200 numbers.
            last: The last picture, likewise.
            steps: The number of pictures, both ends included: 2 to 1000.
            mode: In a straight line, or along the great circle ("spherical").
            format: "raw" pixels, or a "png" or "jpeg" file.
            model: As for `encode`; if omitted, the one model that has the latents of the
                moments, or the service's default.
            version: As for `encode`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Raises:
            NotFoundError: The library has no such film, or the service no such model.
            PreconditionError: The two ends are of different models.
            RefilmError: The call failed for another reason.
            TypeError: An end is neither a moment nor a latent.
            ValueError: A setting is unknown.
        """
        request = wire.interpolation(
            first,
            last,
            model=selector(model, version),
            steps=steps,
            mode=mode,
            format=choice("format", wire.PICTURE_FORMATS, format),
        )
        made_by: ModelIdentity | None = None
        answers = self._transport.answers(self._latents.Interpolate, request, timeout)
        with closing(answers):
            for message in answers:
                if message.WhichOneof("payload") == "model":
                    made_by = identity(message.model)
                else:
                    yield wire.picture(message.frame, format, _told(made_by))

    def interpolate_film(
        self,
        first: LatentSource | MomentQuery,
        last: LatentSource | MomentQuery,
        out: FilmSink,
        *,
        steps: int = 24,
        mode: InterpolationMode = "linear",
        frame_rate: float = 24.0,
        model: str | ModelIdentity = "",
        version: int = 0,
        timeout: float | None = None,
    ) -> ModelIdentity:
        """Writes a film that goes from one moment or latent to another.

        Args:
            first: As for `interpolate`.
            last: As for `interpolate`.
            out: The film's path (an .mp4), which is written atomically, or a file object.
            steps: As for `interpolate`.
            mode: As for `interpolate`.
            frame_rate: Pictures a second: 1 to 120.
            model: As for `interpolate`.
            version: As for `encode`.
            timeout: Seconds; None for the client's `stream_timeout`.

        Returns:
            The model version that decoded.

        Raises:
            OSError: The file cannot be written.
            RefilmError: As for `interpolate`.
            TypeError: As for `interpolate`.
            ValueError: As for `interpolate`.
        """
        request = wire.interpolation(
            first,
            last,
            model=selector(model, version),
            steps=steps,
            mode=mode,
            format=pb.INTERPOLATION_FORMAT_MP4,
            frame_rate=frame_rate,
        )
        made_by: ModelIdentity | None = None
        with Output(out) as output:
            answers = self._transport.answers(self._latents.Interpolate, request, timeout)
            with closing(answers):
                for message in answers:
                    if message.WhichOneof("payload") == "model":
                        made_by = identity(message.model)
                    else:
                        blocking(output.write, message.chunk)
            model_identity = _told(made_by)
            blocking(output.commit)
            return model_identity


def _told(model: ModelIdentity | None) -> ModelIdentity:
    if model is None:
        raise InternalError(
            "the service did not say which model decoded", code=grpc.StatusCode.INTERNAL
        )
    return model
