"""The command line's arguments."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from refilm.cli import _frames, _library_arguments, _question_arguments, _reconstruct, _service

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_ADDRESS = "127.0.0.1:50051"


def parser() -> argparse.ArgumentParser:
    """Returns the parser; each command's options carry the function that runs it as `run`."""
    root = argparse.ArgumentParser(
        prog="refilm", description="Films and frames through 200 numbers a frame, and back."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("REFILM_ADDRESS") or DEFAULT_ADDRESS,
        help=f"where the service listens (default: $REFILM_ADDRESS, else {DEFAULT_ADDRESS})",
    )
    common.add_argument("--json", action="store_true", help="JSON on the standard output")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--model", default="", metavar="NAME", help="default: the service's")
    chosen.add_argument("--version", type=_version, default=0, metavar="N", help="default: latest")

    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _add_reconstruct,
        _library_arguments.add,
        _question_arguments.add,
        _add_encode,
        _add_decode,
        _add_models,
        _add_health,
    ):
        add(commands, common, chosen)
    return root


def _version(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"versions count from 1, not {number}")
    return number


_Parser = argparse.ArgumentParser


def _add_reconstruct(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "reconstruct",
        parents=[common, chosen],
        help="a film in, the film as a model remembers it out",
        description="Reconstructs a film: every frame through 200 numbers, with its own sound. "
        "The output appears when it is complete; what lay there before is replaced.",
    )
    command.add_argument(
        "film",
        metavar="FILM",
        help="the film's path; - for the standard input; films/NAME for one of the library",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the MP4 to write; - for the standard output "
        "(default: FILM's name with .reconstruction.mp4; for -, -)",
    )
    _library_arguments.add_look(command)
    command.add_argument(
        "--latents",
        metavar="FILE",
        help="save every frame's latent: .npy, or .npz with times and the model's identity",
    )
    command.add_argument(
        "--store", action="store_true", help="let the library keep the film and all made of it"
    )
    _library_arguments.add_naming(command)
    command.set_defaults(run=_reconstruct.run)


def _add_encode(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "encode",
        parents=[common, chosen],
        help="pictures in, latents out",
        description="Encodes pictures (JPEG, PNG, WebP) to latents of 200 numbers.",
    )
    command.add_argument(
        "pictures", metavar="PICTURE", nargs="+", help="a picture's path; - for the standard input"
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="save the latents: .npy, or .npz with the model's identity",
    )
    command.add_argument("--embedding", action="store_true", help="embeddings too, with --json")
    command.set_defaults(run=_frames.encode)


def _add_decode(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "decode",
        parents=[common, chosen],
        help="latents in, pictures out",
        description="Decodes latents to pictures. Where the latents name the version that made "
        "them and no --model is given, that very version decodes them.",
    )
    command.add_argument(
        "latents",
        metavar="LATENTS",
        help=".npy, .npz, or the lines of encode --json; - for such lines on the standard input",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help=".png, .jpg or .webp; with a field such as %%04d a picture a latent, from 0; "
        "- for a PNG on the standard output",
    )
    command.set_defaults(run=_frames.decode)


def _add_models(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "models", parents=[common], help="the models that can answer, and their versions"
    )
    command.set_defaults(run=_service.models)


def _add_health(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "health",
        parents=[common],
        help="whether the service can answer (exit code 0) or not (3)",
    )
    command.set_defaults(run=_service.health)
