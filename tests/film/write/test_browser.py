"""Written films in a real browser: they play, seek, sound and know how long they are."""

from pathlib import Path

import numpy as np
import pytest

from film.output import OutputSettings, Size
from tests.film.browser import CHROMIUM, play
from tests.film.clips import Track, make_clip, number_of
from tests.film.outputs import reconstruct

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not there; on Debian: apt-get install chromium"
)

FRAMES = 24 * 5


@pytest.mark.parametrize(
    ("served", "name", "sound", "settings"),
    [
        pytest.param(True, "clip.mp4", [Track("aac")], OutputSettings(), id="served, AAC"),
        pytest.param(False, "clip.mp4", [Track("aac")], OutputSettings(), id="saved, AAC"),
        pytest.param(True, "clip.mkv", [Track("libopus")], OutputSettings(), id="served, Opus"),
        pytest.param(False, "clip.ts", [Track("mp2")], OutputSettings(), id="saved, was MP2"),
        pytest.param(
            True, "clip.mov", [Track("aac", start=1.5)], OutputSettings(), id="served, late sound"
        ),
        pytest.param(
            False, "clip.mkv", [Track("flac")], OutputSettings(size=Size.SOURCE), id="saved, FLAC"
        ),
        pytest.param(True, "clip.mkv", [Track("libmp3lame")], OutputSettings(), id="served, MP3"),
        pytest.param(False, "clip.mp4", [], OutputSettings(), id="saved, no sound"),
    ],
)
def test_chromium_plays_it(
    tmp_path: Path, served: bool, name: str, sound: list[Track], settings: OutputSettings
) -> None:
    clip = make_clip(tmp_path / name, frames=FRAMES, sound=sound)
    output = reconstruct(clip.path, settings)

    seen = play(output.data, tmp_path, seek=3.02, served=served)

    assert "error" not in seen, seen["error"]
    last = output.pictures()[-1]
    ends = [last.time + last.duration]
    if sound:
        heard = output.sound()[-1]
        ends.append(heard.time + heard.duration)
    assert seen["duration"] == pytest.approx(float(max(ends)), abs=1 / 24 + 0.03)
    assert seen["durationAtTheEnd"] == pytest.approx(float(max(ends)), abs=1 / 24 + 0.03)
    assert bool(seen["soundBytes"]) == bool(sound)
    width, height = seen["size"]
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    image = np.repeat(np.array(seen["row"], np.uint8)[None, :, None], 144, axis=0)
    start = float(output.pictures()[0].time)
    assert number_of(image.repeat(3, axis=2)) == int((3.02 - start) * 24)
