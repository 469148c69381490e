"""Going on after any segment: the same bytes as without the interruption, and soon."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import film.read.film_reader
from film.output import Layout, OutputSettings, Quality, Size
from film.read.decoder import PictureDecoder
from film.read.demuxer import Demuxer
from film.read.film_reader import FilmReader
from film.segments import ResumeError, ResumePoint
from film.write.segment_writer import SegmentWriter
from tests.film.browser import CHROMIUM, play
from tests.film.clips import Track, make_clip, number_of
from tests.film.format_clips import MAKERS
from tests.film.outputs import Output
from tests.film.read.test_formats import AWKWARD, READ, REFUSED
from tests.film.segmented import Run, assert_resumes_anywhere, go_on, run, shorten

pytestmark = pytest.mark.slow

BEGUN = [name for name, row in REFUSED.items() if row["pictures"] != "0"]


@pytest.mark.parametrize("name", [*READ, *AWKWARD, *BEGUN])
def test_every_kind_of_film(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    assert_resumes_anywhere(MAKERS[name](tmp_path))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.mkv", {"options": {"g": "250", "bf": "3"}}, id="few key frames"),
        pytest.param(
            "a.ts",
            {"options": {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal:keyint=8"}},
            id="open groups",
        ),
        pytest.param(
            "a.mkv", {"options": {"x264-params": "intra-refresh=1:keyint=12"}}, id="no key frames"
        ),
        pytest.param(
            "a.ts", {"codec": "mpeg2video", "interlaced": True, "options": {"g": "6"}}, id="MPEG-2"
        ),
        pytest.param("a.mkv", {"interlaced": True, "options": {"g": "6"}}, id="interlaced"),
        pytest.param("a.mov", {"sound": [Track("ac3", start=0.7)]}, id="late sound"),
        pytest.param("a.mp4", {"pts": range(36, 132), "sound": [Track()]}, id="late picture"),
    ],
)
def test_films_that_are_hard_to_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    shorten(monkeypatch)
    clip = make_clip(tmp_path / name, **({"frames": 96} | options))

    whole = assert_resumes_anywhere(clip.path)

    assert len(whole.segments) >= 10


def test_pictures_beside_the_model_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    large = OutputSettings(layout=Layout.SIDE_BY_SIDE, size=Size.SOURCE, quality=Quality.HIGH)
    clip = make_clip(tmp_path / "a.mp4", frames=36, sound=[Track()])

    assert_resumes_anywhere(clip.path, settings=large)


def test_progressive_pictures_after_interlaced_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deinterlacer, once it has begun, stays: a reader that goes on must know that it had."""
    shorten(monkeypatch)
    path = tmp_path / "film.ts"
    later: dict[str, Any] = {"container_options": {"output_ts_offset": "1.2"}, "frames": 72}
    with path.open("wb") as out:
        for name, options in (("1.ts", {"interlaced": True}), ("2.ts", later)):
            options = {**options, "codec": "mpeg2video", "options": {"g": "6"}}
            part = make_clip(tmp_path / name, container="mpegts", **options)
            out.write(part.path.read_bytes())

    whole = assert_resumes_anywhere(path)

    after = next(segment.number for segment in whole.segments if segment.resume.frames >= 60)
    reading = whole.segments[after - 1].resume.reading
    assert reading is not None and reading.state["deinterlacing"]
    opened: list[Demuxer] = []

    def open_film(*args: Any, **options: Any) -> Demuxer:
        opened.append(Demuxer(*args, **options))
        return opened[-1]

    monkeypatch.setattr(film.read.film_reader, "Demuxer", open_film)
    assert go_on(path, whole, after).data == whole.data[after:]
    assert len(opened) == 1, "all was decoded again"


def test_tracks_that_were_left_out_or_repaired_stay_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    tracks = [Track("ac3"), Track("aac")]
    clip = make_clip(tmp_path / "clip.mkv", frames=24 * 4, sound=tracks)

    def spoil(number: int, packet: av.Packet) -> av.Packet:
        if packet.stream_index == 2 and 60 <= packet.pts % 1000 < 100:
            packet.pts = packet.dts = packet.pts - 500
        if packet.stream_index != 1:
            return packet
        spoiled = av.Packet(b"\x55" * packet.size)
        spoiled.stream, spoiled.time_base = packet.stream, packet.time_base
        spoiled.pts, spoiled.dts = packet.pts, packet.dts
        return spoiled

    whole = assert_resumes_anywhere(clip.path, change=spoil)

    assert any("did not advance" in warning for warning in whole.warnings)
    assert any("Sound track 1 (ac3)" in warning for warning in whole.warnings)
    assert whole.segments[-1].resume.warnings == tuple(whole.warnings)


def test_little_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[3] / "examples/films/big_buck_bunny_60s.mp4"
    draft = OutputSettings(quality=Quality.DRAFT)
    whole = run(path, draft, size=32)
    decoded: list[int] = []
    decode = PictureDecoder.decode

    def count(self: PictureDecoder, packet: av.Packet | None) -> list[av.VideoFrame]:
        decoded.append(packet.size if packet is not None else 0)
        return decode(self, packet)

    monkeypatch.setattr(PictureDecoder, "decode", count)
    rest = go_on(path, whole, 6, settings=draft, size=32)

    assert rest.data == whole.data[6:]
    assert sum(segment.frames for segment in rest.segments) == 192
    assert len(decoded) < 1440 / 2


def test_where_entering_gives_other_pictures_all_is_decoded_again(tmp_path: Path) -> None:
    tracks = [Track("ac3"), Track()]
    clip = make_clip(tmp_path / "a.mkv", frames=24 * 5, sound=tracks)
    whole = run(clip.path)
    point = whole.segments[0].resume.to_json()
    assert point["reading"]["state"]["check"]
    for name, value in (("check", 1), ("last", 5), ("packet", 40), ("packet", 10**6)):
        told = json.loads(json.dumps(point))
        told["reading"]["state"][name] = value

        rest = run(clip.path, resume=ResumePoint.from_json(told))

        assert rest.data == whole.data[1:]
        assert [each[:3] for each in rest.pictures] == [
            each[:3] for each in whole.pictures if each[0][0] >= 2000
        ]


@pytest.mark.parametrize("data", [None, 5, {}, [], {"format": 0}, {"format": 1, "segments": "x"}])
def test_what_is_no_point_is_refused(data: object) -> None:
    with pytest.raises(ResumeError, match="not a resume point"):
        ResumePoint.from_json(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    clip = make_clip(
        tmp_path_factory.mktemp("clip") / "clip.mp4", frames=24 * 14, sound=[Track("libmp3lame")]
    )
    return clip.path, run(clip.path)


def test_other_settings_or_another_film_are_refused(made: tuple[Path, Run], tmp_path: Path) -> None:
    path, whole = made
    point = whole.segments[0].resume
    with pytest.raises(ResumeError, match="another encoder"):
        run(path, OutputSettings(size=Size.SOURCE), resume=point)
    silent = make_clip(tmp_path / "silent.mp4", frames=24 * 4)
    with pytest.raises(ResumeError, match="does not continue"):
        run(silent.path, resume=point)
    short = make_clip(tmp_path / "short.mp4", frames=24, sound=[Track("libmp3lame")])
    with pytest.raises(ResumeError, match="the film ends before"):
        run(short.path, resume=point)


def test_nothing_is_left_after_the_last_segment(made: tuple[Path, Run]) -> None:
    path, whole = made
    end = whole.segments[-1].resume
    assert end.ended
    with path.open("rb") as file, pytest.raises(ResumeError, match="ended"):
        FilmReader(file, resume=end)
    with pytest.raises(ResumeError):
        SegmentWriter(whole.facts, (), OutputSettings(sound=False), end)


@pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not there; on Debian: apt-get install chromium"
)
@pytest.mark.parametrize("served", [True, False])
def test_chromium_plays_a_film_that_was_interrupted(
    made: tuple[Path, Run], tmp_path: Path, served: bool
) -> None:
    path, whole = made
    assert whole.init is not None
    rest = go_on(path, whole, 2)
    data = b"".join([whole.init, *whole.data[:2], *rest.data])
    output = Output(data, [], whole.origin, [], whole.facts)

    seen = play(data, tmp_path, seek=12.02, served=served)

    assert "error" not in seen, seen["error"]
    heard = output.sound()[-1]
    assert seen["duration"] == pytest.approx(float(heard.time + heard.duration), abs=0.08)
    assert seen["durationAtTheEnd"] == pytest.approx(seen["duration"], abs=0.08)
    assert seen["soundBytes"]
    image = np.repeat(np.array(seen["row"], np.uint8)[None, :, None], 144, axis=0)
    start = float(output.pictures()[0].time)
    assert number_of(image.repeat(3, axis=2)) == int((12.02 - start) * 24)
