"""Command-line options of every recipe that uses the training loop."""

import argparse

import torch

from trainer.distributed import Group
from trainer.loop import LoopSettings, Precision


def add_loop_arguments(parser: argparse.ArgumentParser, *, batch: int, length: str) -> None:
    """Add the options of limits, batch, seed, device and checkpoints.

    Args:
        parser: where to add them.
        batch: default frames a step and process.
        length: for the help: how long it trains without --steps and --minutes, as in "5 epochs".
    """
    parser.add_argument("--steps", type=int, help=f"end at this step; else {length}")
    parser.add_argument("--minutes", type=float, help="end after this long, restarts included")
    parser.add_argument("--batch", type=int, default=batch, help="frames a step and process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if available")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)


def loop_settings(options: argparse.Namespace, default_steps: int) -> LoopSettings:
    """Return the loop's settings; `default_steps` applies if no limit was given."""
    unlimited = options.steps is None and options.minutes is None
    return LoopSettings(
        batch=options.batch,
        steps=default_steps if unlimited else options.steps,
        minutes=options.minutes,
        seed=options.seed,
        checkpoint_minutes=options.checkpoint_minutes,
    )


def precision_on(device: torch.device, options: argparse.Namespace) -> Precision:
    """Return the precision requested, or the device's default."""
    chosen: Precision | None = options.precision
    return chosen or ("bf16" if device.type == "cuda" else "fp32")


def loop_facts(options: argparse.Namespace, group: Group) -> dict[str, object]:
    """Return the loop's settings as a finished run records them."""
    return {
        "batch": options.batch,
        "processes": group.world,
        "seed": options.seed,
        "precision": precision_on(group.device, options),
        "device": group.device.type,
        "fit": options.fit,
    }
