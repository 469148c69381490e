"""Data-parallel training in several processes started by `torchrun`, or in this one alone.

    torchrun --nproc-per-node 2 -m trainer train --recipe broad2016 --data DATA --run RUN

Every process holds the whole model and sees its own part of the data. Gradients are averaged
explicitly, not through DistributedDataParallel: an adversarial step takes several partial
backward passes over the same networks, which DDP's hooks (one backward a step) do not allow.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from trainer.errors import TrainerError


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_leader(self) -> bool:
        """Whether this process writes checkpoints, events and progress (rank 0)."""
        return self.rank == 0

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor, in place, by its mean over the processes."""
        if self.world == 1:
            return
        handles = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
        for tensor, handle in zip(tensors, handles, strict=True):
            if handle is not None:
                handle.wait()
            tensor.div_(self.world)

    def max_over_processes(self, values: Sequence[int]) -> list[int]:
        """Return the elementwise maximum over the processes (an all-reduce)."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(value) for value in tensor.tolist()]


@contextmanager
def process_group(device: str | None = None) -> Iterator[Group]:
    """Join the processes that `torchrun` started, or run alone; leaves on exit.

    Args:
        device: "cpu" or "cuda"; None: CUDA if available.

    Raises:
        TrainerError: CUDA was requested but is not available.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise TrainerError("no CUDA device here: leave --device out, or use --device cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device(kind)
    if kind == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if world == 1:
        yield Group(device=place)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), world, place)
    finally:
        dist.destroy_process_group()
