import numpy as np

from tests.trainer.film_clips import scene
from trainer.shots import ShotDetector


def small(picture: np.ndarray) -> np.ndarray:
    return picture[:144, :256]


def starts(frames: list[np.ndarray], batch: int = 7) -> list[int]:
    detector = ShotDetector()
    for first in range(0, len(frames), batch):
        detector.add(np.stack(frames[first : first + batch]))
    return detector.starts().tolist()


def test_cuts_are_found_where_they_are() -> None:
    lengths = [30, 17, 60, 5, 40]
    frames = [small(scene(n, t)) for n, length in enumerate(lengths) for t in range(length)]
    assert starts(frames) == [0, 30, 47, 107, 112]


def test_what_is_found_does_not_depend_on_batches() -> None:
    frames = [small(scene(n, t)) for n in range(4) for t in range(20)]
    assert starts(frames, 1) == starts(frames, 64) == [0, 20, 40, 60]


def test_a_fade_and_a_fast_pan_are_no_cuts() -> None:
    fade = [(small(scene(1, 0)) * (level / 40)).astype(np.uint8) for level in range(40)]
    pan = [small(scene(2, 6 * t)) for t in range(40)]
    assert starts(fade) == [0]
    assert starts(pan) == [0]


def test_noise_is_no_cut() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 144, 256, 3), dtype=np.uint8)
    assert starts(list(noise)) == [0]


def test_a_film_of_one_frame_is_one_shot() -> None:
    assert starts([small(scene(0, 0))]) == [0]
