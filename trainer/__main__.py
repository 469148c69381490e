"""The trainer's command line: `python -m trainer prepare | train | evaluate | refine | publish`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from trainer.errors import TrainerError
from trainer.recipes import RECIPES, recipe

# Waiting OpenMP threads sleep instead of spinning: four times as fast when other programs need the
# cores, no slower otherwise. torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit status."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        command = {
            "prepare": _prepare,
            "train": _train,
            "evaluate": _evaluate,
            "refine": _refine,
            "publish": _publish,
        }[options.command]
        command(options, console)
    except TrainerError as error:
        console.print(f"[bold red]Error:[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer", description="From film to model.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_prepare(commands.add_parser("prepare", help="turn films into a data set of frames"))
    train = commands.add_parser("train", help="train a recipe on a data set")
    train.add_argument("--recipe", choices=sorted(RECIPES), required=True)
    train.add_argument("--data", type=Path, required=True, help="a prepared data set")
    train.add_argument("--run", type=Path, required=True, help="output directory of the run")
    train.add_argument(
        "--fit",
        choices=("all", "fitted"),
        default="fitted",
        help="train on all frames, or leave the held-out 10-second blocks unseen (default)",
    )
    # Each recipe adds its own arguments, so find the recipe's name before parsing.
    named = [word.removeprefix("--recipe=") for word in arguments if word.startswith("--recipe=")]
    named += [following for word, following in pairwise(arguments) if word == "--recipe"]
    if named and named[-1] in RECIPES:
        recipe(named[-1]).add_arguments(train)
    _add_evaluate(commands.add_parser("evaluate", help="measure a model and draw its sheets"))
    _add_refine(commands.add_parser("refine", help="improve each frame's latent by gradient steps"))
    _add_publish(commands.add_parser("publish", help="write a run into a model repository"))
    return parser.parse_args(arguments)


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM")
    parser.add_argument(
        "--out", type=Path, required=True, help="the data set's folder; must not exist yet"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--every", type=_positive, default=1, metavar="N", help="every n-th frame")
    which.add_argument("--per-shot", type=_positive, metavar="K", help="K frames of each shot")


def _add_model(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", type=Path, help="a finished run")
    which.add_argument("--repository", type=Path, help="a model repository; with --name")
    parser.add_argument("--name", help="the published model's name")
    parser.add_argument("--version", type=_positive, help="its version (default: the newest)")
    parser.add_argument("--data", type=Path, required=True, help="a prepared data set")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--out",
        type=Path,
        help="where to write (default: RUN/evaluation, or RUN/evaluation_8_bits with --bits 8)",
    )
    parser.add_argument(
        "--every", type=_positive, default=1, metavar="N", help="measure every n-th frame only"
    )
    parser.add_argument(
        "--step", type=_positive, metavar="N", help="frames between pairs of the contact sheet"
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=range(1, 17),
        metavar="B",
        help="round latents to B bits a number: 8 makes them 200 bytes a frame",
    )


def _add_refine(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    parser.add_argument("--steps", type=_positive, default=100, help="gradient steps a frame")
    parser.add_argument("--batch", type=_positive, default=64, help="frames at once")
    parser.add_argument(
        "--bits",
        type=int,
        choices=range(1, 17),
        metavar="B",
        help="keep latents of B bits a number: 8 makes them 200 bytes a frame",
    )


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, required=True, help="a finished run")
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--repository", type=Path, required=True, help="a Triton model repository")
    parser.add_argument("--triton", metavar="HOST:PORT", help="also load it into this Triton")


def _prepare(options: argparse.Namespace, console: Console) -> None:
    from trainer.counter import Counter
    from trainer.prepare import Sampling, prepare

    sampling = Sampling(options.every, options.per_shot)
    with Counter("prepare", None) as counter:
        data, warnings = prepare(options.films, options.out, sampling, counter.show)
    for warning in warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")
    console.print(
        f"{len(data)} frames of {len(data.films)} film(s), {len(data.shots)} shots, "
        f"{len(data.held_out)} frames held out: {escape(str(options.out))}"
    )


def _train(options: argparse.Namespace, console: Console) -> None:
    recipe(options.recipe).train(options)


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    from trainer.counter import Counter
    from trainer.dataset import FrameDataset
    from trainer.evaluate import evaluate, model_of_repository, model_of_run

    if options.run is not None:
        model = model_of_run(options.run)
        kind = "evaluation" if options.bits is None else f"evaluation_{options.bits}_bits"
        out = options.out or options.run / kind
    elif options.name is None or options.out is None:
        raise TrainerError("--repository also needs --name and --out")
    else:
        model = model_of_repository(options.repository, options.name, options.version)
        out = options.out
    data = FrameDataset.open(options.data)
    total = -(-len(data) // options.every) + (0 if options.bits is None else len(data))
    with Counter("evaluate", total) as counter:
        metrics = evaluate(
            model,
            data,
            out,
            every=options.every,
            step=options.step,
            bits=options.bits,
            on_frames=counter.advance,
        )
    console.print(json.dumps(metrics["summary"], indent=1), markup=False)
    console.print(f"Measures and contact sheets: {escape(str(out))}")


def _refine(options: argparse.Namespace, console: Console) -> None:
    from trainer.counter import Counter
    from trainer.dataset import FrameDataset
    from trainer.evaluate import model_of_repository, model_of_run
    from trainer.refine import RefineSettings, refine

    if options.run is not None:
        model = model_of_run(options.run)
    elif options.name is None:
        raise TrainerError("--repository also needs --name")
    else:
        model = model_of_repository(options.repository, options.name, options.version)
    data = FrameDataset.open(options.data)
    settings = RefineSettings(options.steps, options.batch, options.bits)
    with Counter("refine", 2 * len(data)) as counter:
        metrics = refine(model, data, options.out, settings, counter.advance)
    console.print(json.dumps(metrics["groups"], indent=1), markup=False)
    console.print(f"Latents and measures: {escape(str(options.out))}")


def _publish(options: argparse.Namespace, console: Console) -> None:
    from trainer.publish import publish
    from trainer.run import Run
    from trainer.triton_load import load

    run = Run(options.run)
    version = publish(
        run.encoder,
        run.decoder,
        name=options.name,
        card=run.card(),
        repository=options.repository,
    )
    where = escape(str(options.repository))
    console.print(f"Published {options.name} version {version} in {where}")
    if options.triton:
        load(options.triton, options.name, version)
        console.print(f"Triton at {escape(options.triton)} serves it")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
