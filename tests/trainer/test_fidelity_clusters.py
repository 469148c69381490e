from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainer.fidelity_films import SIZE, FilmInMemory, psnr, scenes
from trainer.errors import DatasetError
from trainer.export import to_frames, to_pictures
from trainer.recipes.fidelity import clusters
from trainer.recipes.fidelity import memory as fidelity_memory
from trainer.recipes.fidelity.clusters import fit_clusters, frames_to_cluster
from trainer.recipes.fidelity.memory import Memory, MemorySize, fit_memory

pytestmark = pytest.mark.slow

torch.set_num_threads(1)

# Parts of every scene are unseen, as a film's held-out blocks are.
UNSEEN = (*range(40, 60), *range(180, 200), *range(320, 340))


def film_of_three_scenes() -> FilmInMemory:
    return FilmInMemory(scenes(140, 140, 140, directions=90), held_out=UNSEEN, cuts=(140, 280))


def fitted(data: FilmInMemory, size: MemorySize = SIZE.unseen) -> Memory:
    return fit_clusters(data, size, lambda count: None)  # type: ignore[arg-type]


def shown(memory: Memory, frames: Tensor) -> Tensor:
    with torch.inference_mode():
        return to_frames(memory.decoder()(memory.encoder()(to_pictures(frames))))


def test_unseen_frames_are_better_with_clusters_than_with_one_basis() -> None:
    data = film_of_three_scenes()
    truth = data.everything()[list(UNSEEN)]
    basis_bytes = replace(SIZE.unseen, seen=400, bytes=400_000)
    clusters, alone = (
        psnr(shown(fitted(data, replace(basis_bytes, bases=bases)), truth), truth)
        for bases in (4, 1)
    )
    assert clusters > alone + 2


def test_another_film_is_better_with_clusters_than_with_segments() -> None:
    data = film_of_three_scenes()
    other = torch.from_numpy(scenes(20, directions=90)[3:]).flip(1, 2)
    of_segments = fit_memory(data, SIZE.memory, lambda count: None)  # type: ignore[arg-type]
    assert psnr(shown(fitted(data), other), other) > psnr(shown(of_segments, other), other) + 1


def test_the_same_frames_give_the_same_memory() -> None:
    one, other = fitted(film_of_three_scenes()), fitted(film_of_three_scenes())
    assert torch.equal(one.means, other.means)
    frames = film_of_three_scenes().everything()[:4]
    assert torch.equal(shown(one, frames), shown(other, frames))


def test_only_one_cluster_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = film_of_three_scenes()
    for module, name, value in (
        (fidelity_memory, "_BATCH", 16),
        (fidelity_memory, "_SELECTION_FRAMES", 40),
        (clusters, "_FITTED", 50),
        (clusters, "_CLUSTERED", 200),
        (clusters, "_CLUSTER_SAMPLE", 60),
    ):
        monkeypatch.setattr(module, name, value)
    held: list[int] = []
    real = fidelity_memory.principal

    def principal(rows: Tensor, count: int, **given: Tensor) -> tuple[Tensor, Tensor]:
        held.append(len(rows))
        return real(rows, count, **given)

    monkeypatch.setattr(clusters, "principal", principal)
    told: list[int] = []
    fit_clusters(data, SIZE.unseen, told.append)  # type: ignore[arg-type]
    assert data.most_at_once == 16
    assert held[:2] == [50, 50] and len(held) > 2 and max(held[2:]) <= 60
    assert sum(told) == frames_to_cluster(data) == 40 + 50 + 2 * 4 * 200  # type: ignore[arg-type]
    assert not set(data.asked) & set(UNSEEN)


def test_small_clusters_are_dropped() -> None:
    near = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    far = near[:5] + 100
    groups = clusters._clusters(torch.cat([near, far]), 4)
    assert min(len(group) for group in groups) >= clusters._MIN_CLUSTER
    assert sorted(np.concatenate(groups).tolist()) == list(range(205))


@pytest.mark.parametrize("count", [1, 5])
def test_a_few_frames_are_a_film(count: int) -> None:
    frames = film_of_three_scenes().everything()[10 : 10 + count]
    assert psnr(shown(fitted(FilmInMemory(frames.numpy())), frames), frames) > 30


def test_a_film_of_black_is_black() -> None:
    black = torch.zeros(60, 144, 256, 3, dtype=torch.uint8)
    assert shown(fitted(FilmInMemory(black.numpy())), black[:2]).max() <= 1


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="no frame to fit"):
        fitted(FilmInMemory(np.zeros((0, 144, 256, 3), np.uint8)))
