"""The films of docs/formats.md: one maker for each row of its tables."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image

from tests.film.clips import Colour, Track, make_clip, picture

Maker = Callable[[Path], Path]

MAKERS: dict[str, Maker] = {}
"""Makers by the name in the table's first column; each takes an empty folder."""

LONGER: dict[str, Callable[..., Path]] = {}
"""Those that take other options of `make_clip` as well, to make the same film longer."""

HDR_PQ = Colour(matrix=9, primaries=9, transfer=16)
HDR_HLG = Colour(matrix=9, primaries=9, transfer=18)
FRAGMENTED = "frag_keyframe+empty_moov+default_base_moof"


def _clip(name: str, file: str, **options: Any) -> None:
    def make(folder: Path, **others: Any) -> Path:
        return make_clip(folder / file, **(options | others)).path

    MAKERS[name] = LONGER[name] = make


def _maker(name: str) -> Callable[[Maker], Maker]:
    def keep(make: Maker) -> Maker:
        MAKERS[name] = make
        return make

    return keep


def _bytes(name: str, data: Callable[[], bytes]) -> None:
    def make(folder: Path) -> Path:
        path = folder / "film"
        path.write_bytes(data())
        return path

    MAKERS[name] = make


AAC, MP3, OPUS, FLAC = Track(), Track("libmp3lame"), Track("libopus"), Track("flac")
MP2, PCM, AC3 = Track("mp2"), Track("pcm_s16le"), Track("ac3")

# Containers and codecs.
_clip("mp4-h264", "a.mp4", movflags="faststart", sound=[AAC])
_clip("mp4-index-at-end", "a.mp4", sound=[AAC])
_clip("mp4-fragmented", "a.mp4", movflags=FRAGMENTED, sound=[AAC])
_clip("mp4-hevc", "a.mp4", codec="libx265", sound=[MP3])
_clip("mp4-av1", "a.mp4", codec="libsvtav1", sound=[OPUS])
_clip("mp4-vp9", "a.mp4", codec="libvpx-vp9", sound=[FLAC])
_clip("mp4-mpeg4", "a.mp4", codec="mpeg4", sound=[AAC])
_clip("mov-h264", "a.mov", sound=[PCM])
_clip("mov-prores", "a.mov", codec="prores_ks", pix_fmt="yuv422p10le", sound=[PCM])
_clip("mov-mjpeg", "a.mov", codec="mjpeg", pix_fmt="yuvj420p", sound=[PCM])
_clip("mkv-h264", "a.mkv", sound=[OPUS, FLAC])
_clip("mkv-hevc", "a.mkv", codec="libx265", sound=[AC3])
_clip("mkv-mpeg4", "a.mkv", codec="mpeg4", sound=[MP3])
_clip("mkv-ffv1", "a.mkv", codec="ffv1", sound=[PCM])
_clip("webm-vp8", "a.webm", codec="libvpx", sound=[OPUS])
_clip("webm-vp9", "a.webm", codec="libvpx-vp9", sound=[OPUS])
_clip("webm-av1", "a.webm", codec="libsvtav1", sound=[OPUS])
_clip("ts-h264", "a.ts", container="mpegts", sound=[AAC])
_clip("ts-hevc", "a.ts", container="mpegts", codec="libx265", sound=[MP2])
_clip("ts-mpeg2", "a.ts", container="mpegts", codec="mpeg2video", sound=[AC3])
_clip("ps-mpeg2", "a.mpg", container="vob", codec="mpeg2video", sound=[MP2])
_clip("ps-mpeg1", "a.mpg", container="mpeg", codec="mpeg1video", sound=[MP2])
_clip("avi-mpeg4", "a.avi", codec="mpeg4", sound=[MP3])
_clip("avi-h264", "a.avi", codec="libx264", sound=[MP3])
_clip("avi-mjpeg", "a.avi", codec="mjpeg", pix_fmt="yuvj420p", sound=[PCM])
_clip("asf-msmpeg4", "a.wmv", codec="msmpeg4", sound=[Track("mp2", rate=44100)])
_clip("asf-wmv2", "a.wmv", codec="wmv2")
_clip("flv-h264", "a.flv", sound=[Track("aac", rate=44100)])
_clip("ogg-vp8", "a.ogv", container="ogg", codec="libvpx", sound=[OPUS])
_clip("3gp-h264", "a.3gp", sound=[AAC])

# Awkward, and read.
_clip("vfr", "a.mkv", pts=[0, 40, 45, 300, 1000], time_base=Fraction(1, 1000))
_clip("late-start", "a.mkv", pts=[5000 + 42 * i for i in range(24)], time_base=Fraction(1, 1000))
_clip("interlaced-mpeg2", "a.ts", container="mpegts", codec="mpeg2video", interlaced=True)
_clip("interlaced-h264", "a.mkv", interlaced=True)
_clip("rotated-90", "a.mp4", rotation=90)
_clip("rotated-180", "a.mp4", rotation=180)
_clip("rotated-270", "a.mov", rotation=270)
_clip("mirrored", "a.mp4", hflip=True)
_clip("odd-size", "a.webm", codec="libvpx-vp9", size=(161, 121))
_clip("wide-pixels", "a.mp4", sar=Fraction(3, 2))
_clip("10-bit", "a.mkv", codec="libx265", pix_fmt="yuv420p10le")
_clip("12-bit", "a.mkv", codec="ffv1", pix_fmt="yuv420p12le")
_clip("4:4:4", "a.mkv", codec="libx264", pix_fmt="yuv444p")
_clip("gray", "a.mkv", codec="ffv1", pix_fmt="gray")
_clip("alpha", "a.mkv", codec="ffv1", pix_fmt="yuva420p")
_clip("rgb", "a.mov", codec="qtrle", pix_fmt="rgb24")
_clip("full-range", "a.mp4", colour=Colour(range=2))
_clip("hdr-pq", "a.mkv", codec="libx265", pix_fmt="yuv420p10le", colour=HDR_PQ, frames=6)
_clip("hdr-hlg", "a.mkv", codec="libx265", pix_fmt="yuv420p10le", colour=HDR_HLG, frames=6)
_clip("cover-and-film", "a.mp4", cover=True, sound=[AAC])
_clip(
    "many-sounds",
    "a.mkv",
    sound=[Track(language="eng"), Track("ac3", language="fra"), Track("libopus", channels=1)],
)
_clip("one-picture", "a.mp4", frames=1)


@_maker("two-pictures")
def _two_pictures(folder: Path) -> Path:
    path = folder / "a.mkv"
    with av.open(path, "w") as output:
        streams = []
        for width, height in ((160, 90), (320, 180)):
            stream = output.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for number in range(24):
            for stream in streams:
                image = picture(number, stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    return path


def _joined(folder: Path, *parts: dict[str, Any]) -> Path:
    """Join transport streams, as recordings are joined: bytes after bytes."""
    path = folder / "joined.ts"
    with path.open("wb") as out:
        for number, options in enumerate(parts):
            part = make_clip(folder / f"{number}.ts", container="mpegts", **options)
            out.write(part.path.read_bytes())
    return path


@_maker("size-changes")
def _size_changes(folder: Path) -> Path:
    later = [97_500 + 3750 * i for i in range(24)]
    return _joined(folder, {}, {"size": (160, 120), "pts": later, "time_base": Fraction(1, 90_000)})


@_maker("format-changes")
def _format_changes(folder: Path) -> Path:
    later = [97_500 + 3750 * i for i in range(24)]
    return _joined(
        folder, {}, {"pix_fmt": "yuv444p", "pts": later, "time_base": Fraction(1, 90_000)}
    )


@_maker("clock-jumps-back")
def _clock_jumps_back(folder: Path) -> Path:
    part = {"sound": [MP2], "frames": 72}
    return _joined(folder, part, part)


@_maker("damaged-middle")
def _damaged_middle(folder: Path) -> Path:
    path = make_clip(folder / "a.ts", container="mpegts", frames=72).path
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    for packet in range(middle, middle + 2 * 188, 188):
        # Always the same: some damage of chance can be decoded.
        data[packet + 20 : packet + 188] = bytes([0x55]) * 168
    path.write_bytes(data)
    return path


@_maker("ts-begins-anywhere")
def _ts_begins_anywhere(folder: Path) -> Path:
    path = make_clip(folder / "a.ts", container="mpegts", frames=72).path
    # The first key frame is gone; pictures begin with the next, 12 frames later.
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 8 + 77 :])
    return path


# Truncated.
def _cut(name: str, source: str, share: float) -> None:
    def make(folder: Path) -> Path:
        path = MAKERS[source](folder)
        data = path.read_bytes()
        path.write_bytes(data[: round(len(data) * share)])
        return path

    MAKERS[name] = make


_cut("mp4-cut", "mp4-h264", 0.6)
_cut("mp4-index-cut-off", "mp4-index-at-end", 0.6)
_cut("mp4-fragmented-cut", "mp4-fragmented", 0.8)
_cut("mkv-cut", "mkv-h264", 0.6)
_cut("webm-cut", "webm-vp9", 0.6)
_cut("avi-cut", "avi-mpeg4", 0.6)
_cut("asf-cut", "asf-msmpeg4", 0.6)
_cut("ts-cut", "ts-h264", 0.6)
_cut("mp4-head-only", "mp4-h264", 0.01)

# Refused.
_bytes("empty", lambda: b"")
_bytes("garbage", lambda: np.random.default_rng(3).bytes(100_000))
_bytes("text", lambda: b"It was a dark and stormy night. " * 1000)
_bytes("playlist", lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
_bytes("file-list", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n")


def _image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, kind)
    return buffer.getvalue()


_bytes("png", lambda: _image("PNG"))
_bytes("jpeg", lambda: _image("JPEG"))
_bytes("gif", lambda: _image("GIF"))
_bytes("webp", lambda: _image("WEBP"))
_bytes("avif", lambda: _image("AVIF"))


@_maker("no-streams")
def _no_streams(folder: Path) -> Path:
    def box(kind: bytes, payload: bytes) -> bytes:
        return (8 + len(payload)).to_bytes(4, "big") + kind + payload

    header = bytes(12) + (1000).to_bytes(4, "big") + bytes(4) + (1 << 16).to_bytes(4, "big")
    header += (1 << 8).to_bytes(2, "big") + bytes(70) + (1).to_bytes(4, "big")
    path = folder / "a.mp4"
    ftyp = box(b"ftyp", b"isom\x00\x00\x02\x00isom")
    path.write_bytes(ftyp + box(b"moov", box(b"mvhd", header)) + box(b"mdat", b""))
    return path


def _sound_file(path: Path, codec: str, *, cover: bool = False) -> Path:
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=48000)
        assert isinstance(stream, AudioStream)
        if cover:
            art = output.add_stream("png", rate=1)
            assert isinstance(art, VideoStream)
            art.width, art.height, art.pix_fmt = 64, 64, "rgb24"
            art.disposition = av.stream.Disposition.attached_pic
            output.start_encoding()
            frame = av.VideoFrame.from_ndarray(picture(0, 64, 64), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 1)
            output.mux(art.encode(frame) + art.encode(None))
        for start in range(0, 48000, 1024):
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 2048), np.int16), format="s16", layout="stereo"
            )
            silence.sample_rate, silence.pts = 48000, start
            output.mux(stream.encode(silence))
        output.mux(stream.encode(None))
    return path


MAKERS["sound-only-mp4"] = lambda folder: _sound_file(folder / "a.mp4", "aac")
MAKERS["sound-only-mkv"] = lambda folder: _sound_file(folder / "a.mkv", "libopus")
MAKERS["mp3"] = lambda folder: _sound_file(folder / "a.mp3", "libmp3lame")
MAKERS["wav"] = lambda folder: _sound_file(folder / "a.wav", "pcm_s16le")
MAKERS["cover-only"] = lambda folder: _sound_file(folder / "a.mp4", "aac", cover=True)

_clip("too-large", "a.mkv", size=(8192, 4320), frames=1, options={"g": "1", "bf": "0"})


@_maker("too-large-within")
def _too_large_within(folder: Path) -> Path:
    """A bomb: the container says 320 x 180, the pictures inside are much larger."""
    path = make_clip(folder / "a.webm", codec="libvpx-vp9", size=(4104, 4096), frames=1).path
    data = path.read_bytes()
    width, height = b"\xb0\x82" + (4104).to_bytes(2, "big"), b"\xba\x82" + (4096).to_bytes(2, "big")
    assert width in data
    assert height in data
    data = data.replace(width, b"\xb0\x82" + (320).to_bytes(2, "big"))
    path.write_bytes(data.replace(height, b"\xba\x82" + (180).to_bytes(2, "big")))
    return path


@_maker("all-damaged")
def _all_damaged(folder: Path) -> Path:
    return _damage(make_clip(folder / "a.mkv", codec="mpeg2video").path, 0.0)


@_maker("tail-damaged")
def _tail_damaged(folder: Path) -> Path:
    return _damage(make_clip(folder / "a.mkv", codec="libvpx-vp9", frames=72).path, 0.5)


def _damage(path: Path, share: float) -> Path:
    """Overwrite the payload of every picture from a share of the film on; the container stays."""
    data = bytearray(path.read_bytes())
    with av.open(path, "r") as film:
        packets = [packet for packet in film.demux(video=0) if packet.size]
        for packet in packets[round(len(packets) * share) :]:
            start = data.find(bytes(packet), packet.pos)
            data[start : start + packet.size] = bytes([0x55]) * packet.size
    path.write_bytes(data)
    return path


@_maker("no-index")
def _no_index(folder: Path) -> Path:
    path = make_clip(folder / "a.mp4").path
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path
