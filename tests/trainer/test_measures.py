"""What is said of a film's reconstructions, for films drawn frame by frame."""

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.dataset import Shot
from trainer.measures import Measures, frames_to_read, summary_of

ONE_SHOT = [Shot(0, 0, 1000)]


def wall(seed: int) -> Tensor:
    """A picture with something to see all over, uint8 ``[144, 256, 3]``."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(40, 200, (1, 3, 18, 32), generator=generator).float()
    wide = torch.nn.functional.interpolate(coarse, (144, 256), mode="bilinear")
    return wide[0].permute(1, 2, 0).to(torch.uint8)


def walker(seed: int, moments: int, size: int) -> Tensor:
    """A square of `size` that walks in front of a wall, uint8 ``[moments, 144, 256, 3]``."""
    frames = wall(seed).repeat(moments, 1, 1, 1)
    for moment in range(moments):
        frames[moment, 40 : 40 + size, 8 * moment : 8 * moment + size] = 250
    return frames


def measured(
    source: Tensor, result: Tensor, shots: list[Shot] = ONE_SHOT, every: int = 1
) -> Measures:
    measures = Measures(shots, every)
    measures.add(np.arange(len(source)), source, result)
    return measures


def report(measures: Measures) -> dict:
    return measures.report({"all": np.ones(len(measures.index), np.bool_)})["all"]


def test_a_still_shot_that_falls_into_one_picture_is_seen() -> None:
    still, lively = walker(1, 6, size=12), walker(2, 6, size=90)
    shots = [Shot(0, 0, 6), Shot(0, 6, 12)]
    source = torch.cat([still, lively])
    collapsed = torch.cat([still[:1].repeat(6, 1, 1, 1), lively])
    found = report(measured(source, collapsed, shots))
    # The lively shot hides it in the correlation of the whole.
    assert found["temporal"]["correlation"] > 0.9
    assert found["static_shots"] == {
        **{"shots": 1, "changes": 5},
        **{"correlation": 0, "median_shot": 0, "lowest_shot": 0},
    }
    perfect = report(measured(source, source, shots))["static_shots"]
    assert perfect["correlation"] == pytest.approx(1)


def test_static_shots_are_reported_one_by_one_too() -> None:
    shots = [Shot(0, 0, 4), Shot(0, 4, 8), Shot(0, 8, 12)]
    source = torch.cat([walker(seed, 4, size=12) for seed in range(3)])
    result = source.clone()
    result[4:8] = result[4]
    static = report(measured(source, result, shots))["static_shots"]
    assert static["shots"] == 3
    assert static["lowest_shot"] == 0 < 0.7 < static["correlation"] < 0.9
    assert static["median_shot"] == pytest.approx(1)
    # A group knows of its own frames only.
    second = np.isin(np.arange(12), [4, 5, 6, 7])
    measures = measured(source, result, shots)
    alone = measures.report({"second": second})["second"]["static_shots"]
    assert isinstance(alone, dict)
    assert (alone["shots"], alone["changes"], alone["correlation"]) == (1, 3, 0)


def test_without_a_shot_that_stands_still_there_is_nothing_to_say_of_them() -> None:
    lively = walker(2, 4, size=90)
    assert report(measured(lively, lively))["static_shots"] is None
    frozen = lively[:1].repeat(4, 1, 1, 1)
    assert report(measured(frozen, frozen))["static_shots"] is None


def test_frames_are_sorted_by_brightness_into_tenths() -> None:
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    source = (order * 10).to(torch.uint8)[:, None, None, None].expand(-1, 144, 256, -1)
    source = source.repeat(1, 1, 1, 3)
    # The brighter a frame, the larger its error: 1 to 10 grey levels.
    result = source + (order // 2 + 1).to(torch.uint8)[:, None, None, None]
    tenths = report(measured(source, result))["by_brightness"]
    assert [tenth["frames"] for tenth in tenths] == [2] * 10
    assert [tenth["from"] for tenth in tenths] == pytest.approx(list(range(0, 200, 20)), abs=0.01)
    assert [tenth["to"] for tenth in tenths] == pytest.approx(list(range(10, 200, 20)), abs=0.01)
    expected = [20 * np.log10(255 / error) for error in range(1, 11)]
    assert [tenth["psnr"] for tenth in tenths] == pytest.approx(expected, abs=1e-3)
    few = report(measured(source[:3], result[:3]))["by_brightness"]
    assert [tenth["frames"] for tenth in few] == [1, 1, 1]


def test_black_frames_are_read_by_themselves() -> None:
    source, result = walker(1, 4, size=12), walker(1, 4, size=12)
    source[1], result[1] = 0, 3
    source[2], result[2] = 1, 9
    found = report(measured(source, result))["black"]
    assert found == {"frames": 2, "level": pytest.approx(6), "highest": pytest.approx(9)}
    assert report(measured(source[3:], result[3:]))["black"] is None


def test_how_frames_come_in_batches_changes_nothing() -> None:
    source = torch.cat([walker(1, 5, size=40), walker(2, 4, size=40)])
    result = (source.float() * 0.9).to(torch.uint8)
    shots = [Shot(0, 0, 5), Shot(0, 5, 9)]
    whole = measured(source, result, shots).columns()
    for size in (1, 4):
        measures = Measures(shots)
        # As a reader does that uses the same memory for every batch.
        places = torch.empty_like(source[:size]), torch.empty_like(result[:size])
        for indices in frames_to_read(9, every=1, batch=size):
            for place, frames in zip(places, (source, result), strict=True):
                place[: len(indices)] = frames[indices]
            measures.add(indices, *(place[: len(indices)] for place in places))
        for name, values in measures.columns().items():
            assert np.allclose(values, whole[name], atol=1e-4, equal_nan=True), name


@pytest.mark.parametrize("every", [2, 4, 20])
def test_every_nth_frame_is_measured_as_among_all(every: int) -> None:
    source = walker(1, 9, size=40)
    result = (source.float() * 0.9).to(torch.uint8)
    whole = measured(source, result).columns()
    all_fed = measured(source, result, every=every)
    needed_fed = Measures(ONE_SHOT, every)
    for indices in frames_to_read(9, every, batch=3):
        needed_fed.add(indices, source[indices], result[indices])
    for measures in (all_fed, needed_fed):
        assert measures.index.tolist() == list(range(0, 9, every))
        for name, values in measures.columns().items():
            assert np.allclose(values, whole[name][::every], atol=1e-4, equal_nan=True), name


def test_a_summary_holds_the_means_and_groups_without_frames_are_left_out() -> None:
    source = walker(1, 3, size=12)
    measures = measured(source, source)
    groups = measures.report({"all": np.ones(3, np.bool_), "none": np.zeros(3, np.bool_)})
    assert summary_of(groups) == {
        "all": {"psnr": 60.0, "ssim": 1.0, "ms_ssim": 1.0, "haarpsi": 1.0}
    }
