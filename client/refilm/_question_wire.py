"""Between searches over latents and the contract's messages."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from refilm import _question_values as values
from refilm._film_values import Film
from refilm._names import film_name
from refilm._times import Seconds, duration, seconds
from refilm._values import ModelIdentity, Picture
from refilm._wire import (
    choice,
    embedding_rows,
    fraction,
    frame_to_wire,
    identity,
    latent_rows,
    latent_to_wire,
)
from refilm.v1 import autoencoder_pb2
from refilm.v1 import latents_pb2 as pb

if TYPE_CHECKING:
    from refilm._wire import FrameSource, LatentSource

    MomentQuery = values.Moment | tuple[str | Film, Seconds]
    """A film of the library and a time in it."""
    Query = FrameSource | LatentSource | MomentQuery
    """A picture, a latent, or a moment of a film."""

LATENTS_FORMATS: dict[str, pb.LatentsFormat.ValueType] = {
    "npy": pb.LATENTS_FORMAT_NPY,
    "arrow": pb.LATENTS_FORMAT_ARROW,
}
_INTERPOLATION_MODES: dict[str, pb.InterpolationMode.ValueType] = {
    "linear": pb.INTERPOLATION_MODE_LINEAR,
    "spherical": pb.INTERPOLATION_MODE_SPHERICAL,
}
PICTURE_FORMATS: dict[str, pb.InterpolationFormat.ValueType] = {
    "raw": pb.INTERPOLATION_FORMAT_RAW,
    "png": pb.INTERPOLATION_FORMAT_PNG,
    "jpeg": pb.INTERPOLATION_FORMAT_JPEG,
}


def films(names: Iterable[str | Film]) -> list[str]:
    """Returns the names of films; raises TypeError for one film that is not in a list."""
    if isinstance(names, (str, Film)):
        raise TypeError("films is a list of films: put the one into brackets")
    return [film_name(film) for film in names]


def time_range(start: Seconds | None, end: Seconds | None) -> pb.TimeRange | None:
    """Returns the message of a time range; raises ValueError if it ends before it starts.

    None means the film's own start or end.
    """
    if start is None and end is None:
        return None
    message = pb.TimeRange(
        start_time=None if start is None else duration(start),
        end_time=None if end is None else duration(end),
    )
    backwards = message.end_time.ToNanoseconds() < message.start_time.ToNanoseconds()
    if end is not None and backwards:
        raise ValueError(f"the end ({end}) lies before the start ({start})")
    return message


def moment(film: str | Film, time: Seconds) -> pb.FilmMoment:
    """Returns the message of a moment."""
    return pb.FilmMoment(film=film_name(film), time=duration(time))


def search_request(query: Query, **settings: Any) -> pb.SearchFramesRequest:
    """Returns the message of a search; `settings` are its other fields.

    Raises:
        TypeError: The query is none of the accepted types.
        ValueError: It has a shape that no query has.
        OSError: The picture's file cannot be read.
    """
    if _is_moment(query):
        return pb.SearchFramesRequest(moment=moment(*query), **settings)
    if _is_picture(query):
        return pb.SearchFramesRequest(frame=frame_to_wire(query), **settings)
    return pb.SearchFramesRequest(latent=latent_to_wire(cast("LatentSource", query)), **settings)


def interpolation(
    first: LatentSource | MomentQuery,
    last: LatentSource | MomentQuery,
    *,
    model: autoencoder_pb2.ModelSelector,
    steps: int,
    mode: str,
    format: pb.InterpolationFormat.ValueType,
    frame_rate: float | None = None,
) -> pb.InterpolateRequest:
    """Returns the message of an interpolation.

    Raises:
        TypeError: An end is neither a moment nor a latent.
        ValueError: A setting is unknown.
    """
    if steps < 2:
        raise ValueError(f"steps counts pictures with both ends, from 2, not {steps}")
    return pb.InterpolateRequest(
        start=_end(first),
        end=_end(last),
        model=model,
        steps=steps,
        mode=choice("mode", _INTERPOLATION_MODES, mode),
        format=format,
        frame_rate=None if frame_rate is None else _rate(frame_rate),
    )


def _rate(frame_rate: float) -> autoencoder_pb2.Rational:
    if not 1 <= frame_rate <= 120:
        raise ValueError(f"a film has 1 to 120 pictures a second, not {frame_rate}")
    # 23.976 means 24000/1001.
    exact = Fraction(frame_rate).limit_denominator(1001)
    return autoencoder_pb2.Rational(numerator=exact.numerator, denominator=exact.denominator)


def _end(query: LatentSource | MomentQuery) -> pb.InterpolationEnd:
    if _is_moment(query):
        return pb.InterpolationEnd(moment=moment(*query))
    if _is_picture(query):
        raise TypeError("an interpolation goes between moments or latents: encode the picture")
    return pb.InterpolationEnd(latent=latent_to_wire(cast("LatentSource", query)))


def _is_moment(query: object) -> TypeGuard[MomentQuery]:
    return isinstance(query, tuple) and len(query) == 2 and isinstance(query[0], (str, Film))


def _is_picture(query: object) -> TypeGuard[FrameSource]:
    if isinstance(query, (str, os.PathLike)):
        return True
    try:
        view = memoryview(cast("bytes", query))
    except TypeError:
        return False
    return view.ndim != 1 or view.itemsize == 1


def film_latents(message: pb.ListLatentsResponse) -> values.FilmLatents:
    """Returns the latents of some frames of a library film."""
    base = fraction(message.time_base)
    if base is None:
        raise ValueError("latents without a time base")
    return values.FilmLatents(
        pts=tuple(message.pts),
        latents=latent_rows(message.latents),
        embeddings=embedding_rows(message.embeddings),
        time_base=base,
        model=identity(message.model),
    )


def hit(message: pb.SearchHit) -> values.SearchHit:
    """Returns a passage that was found."""
    return values.SearchHit(
        film=message.film,
        title=message.title,
        start=seconds(message.start_time),
        end=seconds(message.end_time),
        best=seconds(message.best_time),
        similarity=message.similarity,
        preview=message.preview or None,
    )


def match(message: pb.MatchClipResponse) -> values.MatchResult:
    """Returns where a clip comes from."""
    bars = message.bars
    return values.MatchResult(
        matches=tuple(
            values.ClipMatch(
                film=found.film,
                title=found.title,
                start=seconds(found.start_time),
                end=seconds(found.end_time),
                clip_start=seconds(found.clip_start_time),
                clip_end=seconds(found.clip_end_time),
                confidence=found.confidence,
                similarity=found.similarity,
            )
            for found in message.matches
        ),
        model=identity(message.model),
        clip_duration=seconds(message.clip_duration),
        frames_compared=message.frames_compared,
        warning=message.query_warning,
        bars=values.CroppedBars(bars.left, bars.top, bars.right, bars.bottom),
        films_searched=message.films_searched,
        films_left_out=message.films_left_out,
    )


def duplicates(message: pb.DuplicatePair, model: ModelIdentity) -> values.DuplicatePair:
    """Returns two passages with the same content."""
    return values.DuplicatePair(
        first=_passage(message.first),
        second=_passage(message.second),
        similarity=message.similarity,
        model=model,
    )


def _passage(message: pb.Passage) -> values.Passage:
    return values.Passage(
        message.film, message.title, seconds(message.start_time), seconds(message.end_time)
    )


def picture(
    frame: autoencoder_pb2.Frame, format: values.PictureFormat, model: ModelIdentity
) -> Picture:
    """Returns a picture of an interpolation."""
    data = frame.raw.rgb if format == "raw" else frame.image
    return Picture(data=data, format=format, model=model, timing=None)
