"""What every recipe that learns step by step takes on the command line."""

import argparse

import torch

from trainer.distributed import Group
from trainer.loop import LoopSettings, Precision


def add_loop_arguments(parser: argparse.ArgumentParser, *, batch: int, length: str) -> None:
    """Add how long, in what portions and on what to train.

    Args:
        parser: where to add.
        batch: frames a step and process, unless given.
        length: how long it trains when neither steps nor minutes are given: "5 epochs".
    """
    parser.add_argument("--steps", type=int, help=f"end at this step; else {length}")
    parser.add_argument("--minutes", type=float, help="end after this long, restarts included")
    parser.add_argument("--batch", type=int, default=batch, help="frames a step and process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU where one is")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="default: bf16 on a GPU")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0)


def loop_settings(options: argparse.Namespace, default_steps: int) -> LoopSettings:
    """Return what was asked for; as many steps as said here if no limit was given."""
    unlimited = options.steps is None and options.minutes is None
    return LoopSettings(
        batch=options.batch,
        steps=default_steps if unlimited else options.steps,
        minutes=options.minutes,
        seed=options.seed,
        checkpoint_minutes=options.checkpoint_minutes,
    )


def precision_on(device: torch.device, options: argparse.Namespace) -> Precision:
    """Return the precision asked for, or the one that suits the device."""
    chosen: Precision | None = options.precision
    return chosen or ("bf16" if device.type == "cuda" else "fp32")


def loop_facts(options: argparse.Namespace, group: Group) -> dict[str, object]:
    """Return what a finished run says of how its loop was set, and of what it was fitted to."""
    return {
        "batch": options.batch,
        "processes": group.world,
        "seed": options.seed,
        "precision": precision_on(group.device, options),
        "device": group.device.type,
        "fit": options.fit,
    }
