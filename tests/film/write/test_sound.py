"""What becomes of a film's sound: copied or encoded, and always where it was beside the picture."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from film.facts import SoundAction
from film.output import OutputSettings, Quality
from film.read.film_reader import FilmReader
from film.write.film_writer import FilmWriter
from tests.film.clips import Track, make_clip
from tests.film.outputs import Output, Packet, reconstruct, samples, source_sound

pytestmark = pytest.mark.slow

ONE_SAMPLE = Fraction(1, 44100)


def payloads(sound: Sequence[Packet]) -> list[bytes]:
    return [packet.data for packet in sound]


def without_adts(data: bytes) -> bytes:
    """Take the header off an ADTS frame."""
    assert data[0] == 0xFF and data[1] & 0xF0 == 0xF0
    return data[7:] if data[1] & 1 else data[9:]


def offsets(path: Path, output: Output) -> list[Fraction]:
    """Return by how much each sound packet lies elsewhere than in the film, in seconds."""
    before, after = source_sound(path), output.sound()
    assert len(before) == len(after)
    return [b.time - (a.time - output.origin) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("clip.mp4", "aac", 48000),
        ("clip.mp4", "aac", 44100),
        ("clip.mov", "aac", 8000),
        ("clip.mkv", "aac", 48000),
        ("clip.mkv", "aac", 44100),
        ("clip.mkv", "libmp3lame", 44100),
        ("clip.avi", "libmp3lame", 44100),
        ("clip.mp4", "libopus", 48000),
        ("clip.mkv", "libopus", 48000),
        ("clip.mkv", "flac", 44100),
        ("clip.mp4", "flac", 48000),
    ],
)
def test_what_browsers_play_is_copied_byte_for_byte(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    clip = make_clip(tmp_path / name, frames=72, sound=[Track(codec, rate)])

    output = reconstruct(clip.path)

    assert output.facts.sound_tracks[0].action is SoundAction.COPY
    assert payloads(output.sound()) == payloads(source_sound(clip.path))
    coarse = Fraction(1, 1000) if name.endswith("mkv") else Fraction(0)
    assert max(map(abs, offsets(clip.path, output))) <= coarse
    assert not output.warnings


def test_a_real_film_keeps_pictures_times_and_sound() -> None:
    film = Path(__file__).parents[3] / "examples/films/big_buck_bunny_60s.mp4"

    output = reconstruct(film, OutputSettings(quality=Quality.DRAFT), batch=64)

    assert len(output.times) == 1440 and output.origin == 0
    assert [picture.time for picture in output.pictures()] == output.times
    assert payloads(output.sound()) == payloads(source_sound(film))
    assert set(offsets(film, output)) == {0}
    assert not output.warnings


@pytest.mark.parametrize("rate", [48000, 44100])
def test_aac_out_of_a_transport_stream_loses_its_header_alone(tmp_path: Path, rate: int) -> None:
    clip = make_clip(tmp_path / "clip.ts", frames=72, sound=[Track("aac", rate)])

    output = reconstruct(clip.path)

    before = source_sound(clip.path)
    assert payloads(output.sound()) == [without_adts(packet.data) for packet in before]
    assert max(map(abs, offsets(clip.path, output))) <= ONE_SAMPLE
    _, wave = samples(BytesIO(output.data))
    assert np.abs(wave[rate // 2 :]).max() > 0.2


def test_opus_keeps_its_pre_skip(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.webm", codec="libvpx", sound=[Track("libopus")])

    output = reconstruct(clip.path)

    first, wave = samples(BytesIO(output.data))
    _, source = samples(clip.path)
    assert output.sound()[0].time == Fraction(-312, 48000)
    assert first == 0
    np.testing.assert_allclose(wave[: 48000 // 2], source[: 48000 // 2], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "picture"),
    [
        ("clip.ts", "mp2", 48000, "libx264"),
        ("clip.ts", "ac3", 48000, "libx264"),
        ("clip.avi", "pcm_s16le", 44100, "mpeg4"),
        ("clip.mov", "pcm_s16be", 22050, "libx264"),
        ("clip.mkv", "pcm_s24le", 96000, "libx264"),
        ("clip.mkv", "ac3", 32000, "libx264"),
    ],
)
def test_other_sound_becomes_aac_and_stays_where_it_was(
    tmp_path: Path, name: str, codec: str, rate: int, picture: str
) -> None:
    tracks = [Track(codec, rate, channels=2, language="fra")]
    clip = make_clip(tmp_path / name, codec=picture, frames=72, sound=tracks)

    output = reconstruct(clip.path)

    with output.open() as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name == "aac"
        assert stream.rate == min(rate, 48000)
    if rate <= 48000:
        start, wave = samples(BytesIO(output.data))
        source_start, source = samples(clip.path)
        skew = round((source_start - output.origin - start) * rate)
        assert abs(best_lag(wave, source, skew, rate)) <= rate / 1000


def best_lag(wave: np.ndarray, source: np.ndarray, skew: int, rate: int) -> int:
    """Return by how many samples two recordings of a tone differ, `skew` taken as known."""
    half = 50
    begin, length = rate // 2, rate
    reference = source[begin : begin + length]
    scores = [
        float(reference @ wave[begin + skew + lag : begin + skew + lag + length])
        for lag in range(-half, half + 1)
    ]
    return int(np.argmax(scores)) - half


def test_all_tracks_come_with_their_language(tmp_path: Path) -> None:
    tracks = [
        Track("aac", 48000, 2, "eng"),
        Track("ac3", 48000, 2, "deu"),
        Track("libopus", 48000, 1, "fra"),
    ]
    clip = make_clip(tmp_path / "clip.mkv", frames=48, sound=tracks)

    output = reconstruct(clip.path)

    with output.open() as container:
        streams = container.streams.audio
        assert [s.language for s in streams] == ["eng", "deu", "fra"]
        assert [s.codec_context.name for s in streams] == ["aac", "aac", "opus"]
        assert [s.codec_context.channels for s in streams] == [2, 2, 1]
    assert payloads(output.sound(2)) == payloads(source_sound(clip.path, 2))


def test_the_default_track_stays_the_default(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=24, sound=[Track("aac"), Track("flac")])
    marked = tmp_path / "marked.mkv"
    with av.open(clip.path) as source, av.open(marked, "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        streams[0].disposition = streams[2].disposition = Disposition.default
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)

    output = reconstruct(marked)

    with output.open() as container:
        assert [s.disposition for s in container.streams.audio] == [0, Disposition.default]


def test_no_sound_where_none_is_wanted(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=24, sound=[Track()])

    output = reconstruct(clip.path, OutputSettings(sound=False))

    with output.open() as container:
        assert not container.streams.audio and len(output.pictures()) == 24


@pytest.mark.parametrize("start", [0.04, 0.5, 1.7, 3.0])
@pytest.mark.parametrize("codec", ["aac", "ac3"])
def test_late_sound_stays_late(tmp_path: Path, start: float, codec: str) -> None:
    clip = make_clip(tmp_path / "clip.mov", frames=24 * 6, sound=[Track(codec, start=start)])

    output = reconstruct(clip.path)

    assert output.expected_times() == [each.time for each in output.pictures()]
    first = output.sound()[0].time
    source = source_sound(clip.path)[0].time
    assert first == (source if codec == "aac" else source - Fraction(1024, 48000))
    with output.open() as container:
        ends = [output.pictures()[-1], output.sound()[-1]]
        end = max(packet.time + packet.duration for packet in ends)
        # Where no sound has come by the time the header leaves, its beginning is guessed.
        near = Fraction(1, 24) if start < 1 else Fraction(1, 15)
        assert abs(Fraction(container.duration, 10**6) - end) < near


def test_picture_that_begins_after_the_sound(tmp_path: Path) -> None:
    pts = list(range(36, 36 + 48))
    clip = make_clip(tmp_path / "clip.mp4", pts=pts, frames=48, sound=[Track()])

    output = reconstruct(clip.path)

    assert output.pictures()[0].time == Fraction(36, 24)
    assert max(map(abs, offsets(clip.path, output))) == 0


@pytest.mark.parametrize("until", [0, 30])
def test_sound_that_never_comes_or_ends_early_holds_nothing_back(
    tmp_path: Path, until: int
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=24 * 20, sound=[Track()])
    chunks: list[bytes] = []
    with clip.path.open("rb") as file, FilmReader(file) as reader:
        writer = FilmWriter(chunks.append, reader.facts, reader.sound_streams, OutputSettings())
        for number, part in enumerate(reader.batches(24)):
            if number * 24 >= until:
                part.sound = []
            writer.write(part, part.frames)
            fragments = sum(chunk.count(b"moof") for chunk in chunks)
            assert number - 2 * fragments <= 3, "seconds of film are kept back"
        writer.close()

    with av.open(BytesIO(b"".join(chunks)), "r") as container:
        assert abs(container.duration - 20 * 10**6) < 10**6 / 24
        assert sum(1 for _ in container.decode(video=0)) == 24 * 20


def test_sound_stored_long_before_its_pictures_is_not_kept(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "clip.avi", codec="mpeg4", frames=24 * 30, sound=[Track("pcm_s16le")]
    )
    chunks: list[bytes] = []
    with clip.path.open("rb") as file, FilmReader(file) as reader:
        parts = list(reader.batches(24))
        sound = [packet for part in parts for packet in part.sound] * 8
        for part in parts:
            part.sound = []
        parts[0].sound = sound
        writer = FilmWriter(chunks.append, reader.facts, reader.sound_streams, OutputSettings())
        for part in parts:
            writer.write(part, part.frames)
        writer.close()

    with av.open(BytesIO(b"".join(chunks)), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 24 * 30


Change = Callable[[int, av.Packet], av.Packet | None]


def rewritten(path: Path, change: Change) -> tuple[Output, list[bytes]]:
    """Reconstruct a film whose sound packets `change` has had in its hands."""
    chunks: list[bytes] = []
    given: list[bytes] = []
    with path.open("rb") as file, FilmReader(file) as reader:
        writer = FilmWriter(chunks.append, reader.facts, reader.sound_streams, OutputSettings())
        times = []
        seen = 0
        for part in reader.batches(16):
            kept = []
            for packet in part.sound:
                packet = change(seen, packet)
                seen += 1
                if packet is not None:
                    kept.append(packet)
                    given.append(bytes(packet))
            part.sound = kept
            times += [int(pts) * reader.facts.time_base for pts in part.pts]
            writer.write(part, part.frames)
        writer.close()
        made = Output(b"".join(chunks), times, writer.origin, writer.warnings, reader.facts)
        return made, given


def test_times_that_run_backwards_are_repaired_and_reported(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=72, sound=[Track()])

    def back(number: int, packet: av.Packet) -> av.Packet:
        if 40 <= number < 43:
            packet.pts -= 3000
            packet.dts = packet.pts
        return packet

    output, given = rewritten(clip.path, back)

    sound = output.sound()
    assert payloads(sound) == given
    assert [packet.time for packet in sound] == [p.time for p in source_sound(clip.path)]
    assert output.warnings == [
        "Sound track 1 (aac): 3 packets had times that did not advance; "
        "they were put one after the other."
    ]


def test_gaps_in_copied_sound_stay(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.ts", frames=72, sound=[Track()])

    output, _ = rewritten(clip.path, lambda n, packet: None if 40 <= n < 60 else packet)

    before = source_sound(clip.path)
    kept = before[:40] + before[60:]
    assert [p.time + output.origin for p in output.sound()] == [p.time for p in kept]


def test_gaps_in_encoded_sound_are_filled_with_silence(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.avi", codec="mpeg4", frames=72, sound=[Track("ac3")])

    output, _ = rewritten(clip.path, lambda n, packet: None if 30 <= n < 45 else packet)

    sound = output.sound()
    steps = {b.time - a.time for a, b in pairwise(sound)}
    assert steps == {Fraction(1024, 48000)}
    start, wave = samples(BytesIO(output.data))
    gap = wave[int((Fraction(37 * 1536, 48000) - start) * 48000) :][:4800]
    after = wave[int((Fraction(50 * 1536, 48000) - start) * 48000) :][:4800]
    assert np.abs(gap).max() < 0.01 < 0.2 < np.abs(after).max()


def test_a_track_that_cannot_be_decoded_is_left_out_and_the_film_lives(tmp_path: Path) -> None:
    tracks = [Track("ac3"), Track("aac")]
    clip = make_clip(tmp_path / "clip.mkv", frames=24 * 4, sound=tracks)

    def spoil(number: int, packet: av.Packet) -> av.Packet:
        if packet.stream_index != 1:
            return packet
        spoiled = av.Packet(b"\x55" * packet.size)
        spoiled.stream, spoiled.time_base = packet.stream, packet.time_base
        spoiled.pts, spoiled.dts = packet.pts, packet.dts
        return spoiled

    output, _ = rewritten(clip.path, spoil)

    assert len(output.pictures()) == 24 * 4
    assert any("Sound track 1 (ac3): its sound cannot be decoded" in w for w in output.warnings)
    with output.open() as container:
        assert payloads(source_sound(clip.path, 1)) in [
            payloads(output.sound(track)) for track in range(len(container.streams.audio))
        ]


def test_picture_and_sound_move_together(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "clip.ts",
        frames=48,
        sound=[Track()],
        container_options={"output_ts_offset": "5000.123"},
    )

    output = reconstruct(clip.path)

    assert output.origin >= 5000
    assert [each.time for each in output.pictures()] == output.expected_times()
    assert max(map(abs, offsets(clip.path, output))) <= ONE_SAMPLE
    assert 0 <= min(output.pictures()[0].time, output.sound()[0].time) < Fraction(1, 10)
    assert any("moved to 0" in warning for warning in output.warnings)
