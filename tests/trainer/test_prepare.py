import fcntl
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from film.read.film_reader import FilmReader
from tests.trainer.film_clips import clip_of_scenes, scene, write_clip
from trainer.dataset import FrameDataset
from trainer.errors import DatasetError
from trainer.prepare import Sampling, prepare


def prepared(films: list[Path], out: Path, sampling: Sampling | None = None) -> FrameDataset:
    return prepare(films, out, sampling or Sampling(), lambda done, total: None)[0]


def read_all(film: Path) -> tuple[np.ndarray, np.ndarray, Fraction]:
    with film.open("rb") as file:
        reader = FilmReader(file, sound=False)
        batches = list(reader.batches(64))
        reader.close()
    frames = np.concatenate([batch.frames for batch in batches])
    return frames, np.concatenate([batch.pts for batch in batches]), reader.facts.time_base


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_of_scenes(tmp_path_factory.mktemp("clip") / "three scenes.mp4", [30, 50, 20])


def test_frames_and_times_are_the_readers_own(clip: Path, tmp_path: Path) -> None:
    data = prepared([clip], tmp_path / "data")
    frames, pts, time_base = read_all(clip)
    assert len(data) == 100
    assert np.array_equal(data.frames(np.arange(100)), frames)
    assert np.array_equal(data.pts, pts)
    assert data.films[0].time_base == time_base
    assert data.seconds(24) == 1


def test_frames_come_from_anywhere_in_any_order(clip: Path, tmp_path: Path) -> None:
    data = prepared([clip], tmp_path / "data")
    frames, _, _ = read_all(clip)
    indices = np.array([99, 0, 50, 50, 7])
    assert np.array_equal(data.frames(indices), frames[indices])
    assert data.frames(np.array([], np.int64)).shape == (0, 144, 256, 3)


def test_shots_and_film_are_reported(clip: Path, tmp_path: Path) -> None:
    data = prepared([clip], tmp_path / "data")
    assert [(shot.first, shot.stop) for shot in data.shots] == [(0, 30), (30, 80), (80, 100)]
    film = data.films[0]
    assert (film.title, film.frames, film.source_frames) == ("three scenes", 100, 100)
    assert (film.width, film.height) == (320, 180)
    assert film.digest.startswith("sha256:")


def test_every_nth_frame(clip: Path, tmp_path: Path) -> None:
    data = prepared([clip], tmp_path / "data", Sampling(every=7))
    frames, pts, _ = read_all(clip)
    assert np.array_equal(data.frames(np.arange(len(data))), frames[::7])
    assert np.array_equal(data.pts, pts[::7])
    assert [(shot.first, shot.stop) for shot in data.shots] == [(0, 5), (5, 12), (12, 15)]


def test_a_few_frames_of_each_shot(clip: Path, tmp_path: Path) -> None:
    data = prepared([clip], tmp_path / "data", Sampling(per_shot=2))
    frames, _, _ = read_all(clip)
    assert np.array_equal(data.frames(np.arange(6)), frames[[7, 22, 42, 67, 85, 95]])
    assert [(shot.first, shot.stop) for shot in data.shots] == [(0, 2), (2, 4), (4, 6)]


def test_more_frames_a_shot_than_it_has_takes_each_once(clip: Path, tmp_path: Path) -> None:
    assert len(prepared([clip], tmp_path / "data", Sampling(per_shot=1000))) == 100


def test_several_films_lie_one_after_another(clip: Path, tmp_path: Path) -> None:
    other = clip_of_scenes(tmp_path / "other.mp4", [15, 10], rate=30)
    data = prepared([clip, other], tmp_path / "data")
    assert np.array_equal(data.film, [0] * 100 + [1] * 25)
    assert [(shot.film, shot.first) for shot in data.shots[-2:]] == [(1, 100), (1, 115)]
    assert data.seconds(100) == 0
    assert data.seconds(115) == Fraction(1, 2)


def test_held_out_blocks_go_by_time_not_by_count(tmp_path: Path) -> None:
    """A film whose rate changes midway: 2 frames a second for 40 s, then 10 a second for 20 s."""
    times = [t * 45000 for t in range(80)] + [40 * 90000 + t * 9000 for t in range(200)]
    film = write_clip(tmp_path / "film.mp4", [scene(1, t) for t in range(280)], pts=times)
    data = prepared([film], tmp_path / "data")
    seconds = [data.seconds(index) for index in data.held_out]
    assert len(seconds) == 100
    assert min(seconds) == 40 and max(seconds) < 50
    assert sorted([*data.held_out, *data.fitted]) == list(range(280))
    everything = data.with_all_fitted()
    assert len(everything.fitted) == 280 and len(everything.held_out) == 0
    assert len(data.held_out) == 100


def test_the_digest_is_of_the_content(clip: Path, tmp_path: Path) -> None:
    one, again = prepared([clip], tmp_path / "one"), prepared([clip], tmp_path / "again")
    fewer = prepared([clip], tmp_path / "fewer", Sampling(every=2))
    assert one.digest == again.digest != fewer.digest


def test_what_is_no_film_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a film " * 1000)
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        prepared([text], tmp_path / "data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_or_missing_film_is_refused(tmp_path: Path, content: bytes | None) -> None:
    film = tmp_path / "film.mp4"
    if content is not None:
        film.write_bytes(content)
    with pytest.raises(DatasetError, match=r"film\.mp4"):
        prepared([film], tmp_path / "data")


def test_one_bad_film_among_good_ones_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"x" * 5000)
    with pytest.raises(DatasetError, match=r"bad\.mp4"):
        prepared([clip, bad], tmp_path / "data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.mp4"]


def test_of_a_film_that_is_truncated_the_readable_part_is_taken(tmp_path: Path) -> None:
    whole = clip_of_scenes(tmp_path / "whole.ts", [60, 60])
    cut = tmp_path / "cut.ts"
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * 0.6) // 188 * 188])
    data, _ = prepare([cut], tmp_path / "data", Sampling(), lambda done, total: None)
    assert 30 < len(data) < 120


def test_a_folder_that_holds_something_is_left_alone(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match="already holds something else"):
        prepared([clip], tmp_path / "data")
    assert (tmp_path / "data" / "letter.txt").read_text() == "dear"


def test_a_data_set_is_not_overwritten(clip: Path, tmp_path: Path) -> None:
    prepared([clip], tmp_path / "data", Sampling(every=50))
    with pytest.raises(DatasetError, match="already holds a prepared data set"):
        prepared([clip], tmp_path / "data")
    assert len(FrameDataset.open(tmp_path / "data")) == 2


def test_two_at_once_do_not_mix(clip: Path, tmp_path: Path) -> None:
    staging = tmp_path / ".data.partial"
    staging.mkdir()
    other = os.open(staging, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(DatasetError, match="being prepared by another process"):
        prepared([clip], tmp_path / "data")
    os.close(other)
    assert len(prepared([clip], tmp_path / "data")) == 100


def test_killed_halfway_there_is_no_data_set_and_the_next_one_is_whole(
    clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    script = (
        "import os, pathlib, signal, sys\n"
        "from trainer.prepare import Sampling, prepare\n"
        "def die(done, total): os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), Sampling(), die)\n"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(clip), str(out)]
    done = subprocess.run(command, cwd=root, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert any(tmp_path.iterdir()), "killed before it had begun"
    assert len(prepared([clip], out)) == 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_a_damaged_frame_is_reported(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    prepared([clip], out)
    pack = out / "frames-00000.pack"
    pack.write_bytes(b"\0" * pack.stat().st_size)
    with pytest.raises(DatasetError, match="Frame 3 of the data set is damaged"):
        FrameDataset.open(out).frames(np.array([3]))


def test_a_folder_without_a_data_set_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no prepared data set"):
        FrameDataset.open(tmp_path / "nowhere")
