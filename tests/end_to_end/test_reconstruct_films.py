"""Films of many kinds through the running service: frames, times, sound and picture come back."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import pytest

from film.size import MODEL_FRAME_WIDTH
from tests.film.clips import Track, make_clip, number_of
from tests.support.messages import LOOK
from tests.support.reconstruct import Film, Sound, read_film, reconstruct

AAC, OPUS, MP3 = Track("aac"), Track("libopus"), Track("libmp3lame", rate=44100)


@dataclass(frozen=True)
class Variant:
    """A clip, and what shall become of its sound."""

    suffix: str
    clip: dict[str, Any] = field(default_factory=dict)
    copied: bool = True


VARIANTS = {
    "mp4": Variant(".mp4", {"sound": [AAC], "movflags": "faststart"}),
    "mov-index-at-end": Variant(".mov", {"sound": [AAC]}),
    "fragmented": Variant(
        ".mp4", {"sound": [AAC], "movflags": "frag_keyframe+empty_moov+delay_moov"}
    ),
    "mkv-flac": Variant(".mkv", {"sound": [Track("flac")]}),
    "webm-vp9-opus": Variant(".webm", {"codec": "libvpx-vp9", "sound": [OPUS]}),
    "transport-stream": Variant(".ts", {"sound": [AAC]}),
    "avi-mpeg4-mp3": Variant(".avi", {"codec": "mpeg4", "sound": [MP3]}),
    "hevc-10-bit": Variant(".mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
    "av1": Variant(".webm", {"codec": "libsvtav1"}),
    "silent": Variant(".mp4"),
    "two-tracks": Variant(
        ".mp4", {"sound": [Track("aac", language="eng"), Track("libmp3lame", language="deu")]}
    ),
    "sound-starts-late": Variant(".mp4", {"sound": [Track("aac", start=0.5)]}),
    "pcm": Variant(".mkv", {"sound": [Track("pcm_s16le")]}, copied=False),
    "variable-rate": Variant(
        ".mp4",
        {
            "pts": [0, 40, 50, 333, 334, 900, 1000, 1041, 1999, 2000, 2500, 2917],
            "time_base": Fraction(1, 1000),
            "sound": [AAC],
        },
    ),
    "interlaced": Variant(".ts", {"codec": "mpeg2video", "interlaced": True, "size": (720, 576)}),
    "odd-size": Variant(".webm", {"codec": "libvpx-vp9", "size": (161, 121)}),
    "anamorphic": Variant(".mp4", {"size": (720, 576), "sar": Fraction(64, 45)}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_frame_keeps_its_time_and_its_picture(
    name: str, channel: grpc.Channel, tmp_path: Path
) -> None:
    variant = VARIANTS[name]
    clip = make_clip(tmp_path / f"clip{variant.suffix}", **variant.clip)

    # The left half is what the model was shown: the numbers on the pictures can be read there.
    answer = reconstruct(channel, clip.path, LOOK(layout=LOOK.LAYOUT_SIDE_BY_SIDE))

    assert answer.error is None
    source, output = read_film(clip.path), read_film(answer.output)
    assert len(output.times) == len(source.times) == clip.frames
    assert steps(output) == steps(source)
    shown = [number_of(picture[:, :MODEL_FRAME_WIDTH]) for picture in output.pictures]
    assert shown == list(range(clip.frames))
    assert answer.summary is not None
    assert answer.summary.frames == clip.frames
    assert list(answer.summary.warnings) == []
    assert len(output.sounds) == len(source.sounds)
    for before, after in zip(source.sounds, output.sounds, strict=True):
        if after.codec == "aac":
            heard = heard_from(before, source)
            assert heard_from(after, output) == pytest.approx(heard, abs=1e-3)
        if not variant.copied:
            assert after.codec == "aac"
            continue
        assert starts(after, output) == pytest.approx(starts(before, source), abs=1e-3)
        if variant.suffix == ".ts":
            assert after.payloads == [without_adts(payload) for payload in before.payloads]
        else:
            assert after.payloads == before.payloads


def steps(film: Film) -> list[Fraction]:
    """Times from the first frame on; where the first lies, the sound compares."""
    return [time - film.times[0] for time in film.times]


def starts(sound: Sound, film: Film) -> float:
    """Return how long after the picture the first packet of sound lies, priming included."""
    return float(sound.times[0] - film.times[0])


def heard_from(sound: Sound, film: Film) -> float:
    """Return how long after the picture the sound is heard, by FFmpeg's reading of the priming."""
    assert sound.heard_from is not None
    return float(sound.heard_from - film.times[0])


def without_adts(payload: bytes) -> bytes:
    """Strip the header that AAC has in a transport stream, and nowhere else."""
    return payload[7 if payload[1] & 1 else 9 :]
