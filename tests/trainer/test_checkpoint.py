from pathlib import Path

import pytest
import torch

from trainer import checkpoint
from trainer.checkpoint import CheckpointError


def test_the_last_two_are_kept_and_read_back(tmp_path: Path) -> None:
    for step in (1, 5, 20, 100):
        checkpoint.save(tmp_path, step, {"step": step, "weights": torch.full((3,), float(step))})
    kept = checkpoint.paths(tmp_path)
    assert [checkpoint.step_of(path) for path in kept] == [20, 100]
    state = checkpoint.load(kept[-1])
    assert state["step"] == 100
    weights = state["weights"]
    assert isinstance(weights, torch.Tensor)
    assert weights.tolist() == [100.0] * 3


def test_a_write_that_fails_leaves_the_last_one_alone(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"step": 1})
    content = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path, 1, {"step": lambda: None})
    assert path.read_bytes() == content
    checkpoint.remove_leftovers(tmp_path)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_cut_short_is_refused_with_its_name(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, {"step": 7, "weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match=r"step_00000007\.pt cannot be read"):
        checkpoint.load(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "step_00000001.pt"
    path.parent.mkdir()
    torch.save({"step": Path}, path)  # a class: only tensors and plain values are read
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)
