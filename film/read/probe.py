"""Opens a film: selects container and streams, and collects the film's facts."""

from fractions import Fraction
from typing import NoReturn

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from film.errors import FilmError, FilmLimitError, NoPictureError, NotAFilmError
from film.facts import FilmFacts, SoundAction, SoundTrack
from film.limits import ReadLimits
from film.read.input_file import FilmSource
from film.read.pictures import orientation_of
from film.read.tone_map import TRANSFER_NAMES, is_hdr

CONTAINERS = "mov,matroska,mpegts,mpeg,avi,asf,flv,ogg"
"""FFmpeg's demuxers that may be used: film containers. None opens other files, and none is a
playlist or an image sequence."""

_COPIED_CODECS = frozenset(("aac", "mp3", "opus", "flac"))

_NOT_THE_FILM = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
_STILL_CODECS = frozenset(("png", "mjpeg", "bmp", "gif", "webp", "tiff"))


def open_container(source: FilmSource, limits: ReadLimits) -> InputContainer:
    """Open a film with FFmpeg.

    Raises:
        NotAFilmError: FFmpeg finds no film in it.
        FilmError: reading it failed, as `source` reports.
    """
    try:
        return av.open(
            source,
            "r",
            # For the decoders that look for the streams' parameters.
            options={"max_pixels": str(limits.picture_pixels), "threads": "1"},
            container_options={
                "format_whitelist": CONTAINERS,
                # Never look for an index, or a chapter, beyond what has arrived. Nor generate
                # missing times, PyAV's default: they are wrong for AVI with B-frames.
                "fflags": "+ignidx-genpts",
                "ignore_chapters": "1",
            },
            metadata_errors="replace",
            io_open=_refuse_other_files,
        )
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError):
        source.check()
        raise NotAFilmError(
            "no film can be read from these bytes; expected MP4, MOV, Matroska, WebM, MPEG-TS, "
            "MPEG-PS, AVI, ASF/WMV, FLV or Ogg"
        ) from None


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("a film may not open other files")


def choose_picture(container: InputContainer, limits: ReadLimits) -> VideoStream:
    """Choose the film's picture: no cover, the default one, the largest.

    Raises:
        NotAFilmError: there is no stream at all.
        NoPictureError: there is none with moving pictures.
        FilmError: its codec cannot be decoded.
        FilmLimitError: its pictures are too large.
    """
    if not container.streams:
        raise NotAFilmError("the film holds no streams: neither picture nor sound")
    moving = [s for s in container.streams.video if not s.disposition & _NOT_THE_FILM]
    if not moving:
        held = "sound and a cover picture" if container.streams.video else "sound"
        if not container.streams.audio:
            held = "a still picture" if container.streams.video else "no picture"
        raise NoPictureError(f"the film holds {held}, but no moving picture")
    decodable = [stream for stream in moving if stream.codec_context is not None]
    if not decodable:
        raise FilmError("the film's pictures are in a codec that cannot be decoded")

    def rank(stream: VideoStream) -> tuple[bool, bool, int, int]:
        return (
            stream.codec_context.name not in _STILL_CODECS,
            bool(stream.disposition & Disposition.default),
            stream.width * stream.height,
            -stream.index,
        )

    best = max(decodable, key=rank)
    if best.width * best.height > limits.picture_pixels:
        raise FilmLimitError(
            f"the film's pictures have {best.width} x {best.height} pixels; "
            f"at most {limits.picture_pixels} are decoded",
            "picture_pixels",
        )
    return best


def choose_sound(container: InputContainer, *, wanted: bool) -> dict[AudioStream, SoundAction]:
    """Return the action for every sound track, in the film's order."""
    return {stream: _action(stream, wanted) for stream in container.streams.audio}


def _action(stream: AudioStream, wanted: bool) -> SoundAction:
    context = stream.codec_context
    if not wanted or context is None or not context.sample_rate or not context.channels:
        return SoundAction.DROP
    return SoundAction.COPY if codec_name(stream) in _COPIED_CODECS else SoundAction.TRANSCODE


def discard_others(container: InputContainer, kept: set[int]) -> None:
    """Have the demuxer discard every stream whose index is not in `kept`."""
    for stream in container.streams:
        stream.discard = Discard.default if stream.index in kept else Discard.all


def codec_name(stream: VideoStream | AudioStream) -> str:
    """Return the codec's name, for example "opus", whichever decoder reads it."""
    return stream.codec_context.codec.canonical_name


def read_facts(
    container: InputContainer,
    head: bytes,
    stream: VideoStream,
    first: av.VideoFrame,
    sound: dict[AudioStream, SoundAction],
    *,
    length_is_open: bool,
) -> FilmFacts:
    """Collect the film's facts from its container and its first picture.

    `length_is_open`: the length that FFmpeg reports is not the film's.
    """
    duration = None if length_is_open else _duration(container, stream)
    rate = stream.average_rate or None
    frames = None if length_is_open else stream.frames or None
    if frames is None and duration is not None and rate is not None:
        frames = max(1, round(duration * rate))
    return FilmFacts(
        container=_container_name(container, head),
        video_codec=codec_name(stream),
        width=first.width,
        height=first.height,
        sample_aspect_ratio=_sample_aspect_ratio(stream),
        rotation=orientation_of(first).rotation,
        average_frame_rate=rate,
        time_base=stream.time_base or Fraction(1, 1000),
        duration=duration,
        estimated_frames=frames,
        interlaced=first.interlaced_frame,
        transfer=TRANSFER_NAMES.get(first.color_trc, "unknown"),
        tone_mapped=is_hdr(first),
        bit_depth=max((part.bits for part in first.format.components), default=8),
        sound_tracks=tuple(_track(track, action) for track, action in sound.items()),
    )


def _container_name(container: InputContainer, head: bytes) -> str:
    name = container.format.name.split(",")[0]
    if name == "mov":
        brand = container.metadata.get("major_brand", "qt").strip()
        if brand == "qt":
            return "mov"
        return "3gp" if brand.startswith("3g") else "mp4"
    if name == "matroska" and b"webm" in head[:64]:
        return "webm"
    return name


def _duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration and container.duration > 0:
        return Fraction(container.duration, av.time_base)
    return None


def _sample_aspect_ratio(stream: VideoStream) -> Fraction:
    ratio = stream.sample_aspect_ratio
    # An absurd value in a header must not make the output a line.
    return ratio if ratio and Fraction(1, 16) <= ratio <= 16 else Fraction(1)


def _track(stream: AudioStream, action: SoundAction) -> SoundTrack:
    context = stream.codec_context
    language = (stream.language or "").lower()
    known = len(language) == 3 and language.isalpha() and language != "und"
    return SoundTrack(
        codec=codec_name(stream) if context is not None else "unknown",
        sample_rate=context.sample_rate if context is not None else 0,
        channels=context.channels if context is not None else 0,
        language=language if known else "",
        action=action,
    )
