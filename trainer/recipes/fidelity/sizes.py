"""The sizes of `fidelity`, chosen for the size of the model's two files."""

from dataclasses import dataclass

from trainer.recipes.fidelity.memory import MemorySize


@dataclass(frozen=True, slots=True)
class Size:
    """The settings of a size."""

    memory: MemorySize
    unseen: MemorySize
    """Of a memory for unseen frames: more bins for the encoder, fewer for detail."""
    channels: int
    blocks: int
    """Of the refinement."""


SIZES = {
    "small": Size(
        memory=MemorySize(bases=16, bins=24_000, seen=1_000, bytes=14_800_000, changes=1.0),
        unseen=MemorySize(bases=16, bins=24_000, seen=2_400, bytes=10_300_000),
        channels=64,
        blocks=3,
    ),
    "large": Size(
        memory=MemorySize(bases=32, bins=32_000, seen=3_000, bytes=95_000_000, changes=8.0),
        unseen=MemorySize(bases=64, bins=24_000, seen=4_000, bytes=57_500_000),
        channels=96,
        blocks=4,
    ),
}
"""Encoder and decoder file together: at most 24 and 128 MB."""
