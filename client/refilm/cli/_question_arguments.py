"""The command line's arguments for latents and searches."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import TYPE_CHECKING

from refilm.cli import _between, _questions
from refilm.cli._library_arguments import film_name
from refilm.cli._times import parse_time

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_Parser = argparse.ArgumentParser
_TIME = "1:02:03.5, 90, 90s or 1m30s, from the film's first frame"


def add(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    """Adds the commands."""
    for add_one in (
        _add_search,
        _add_match,
        _add_duplicates,
        _add_interpolate,
        _add_frame,
        _add_latents,
    ):
        add_one(commands, common, chosen)


def _time(text: str) -> Fraction:
    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _moment(text: str) -> tuple[str, Fraction]:
    film, at, time = text.partition("@")
    if not at or not film:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment: write films/NAME@1:23.4")
    return film_name(film), _time(time)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {number}")
    return number


def _add_films(command: _Parser) -> None:
    command.add_argument(
        "--film",
        dest="films",
        metavar="FILM",
        type=film_name,
        action="append",
        default=[],
        help="only this film of the library; may be given more than once",
    )


def _add_search(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "search",
        parents=[common, chosen],
        help="passages that look like a picture, a moment or a latent",
        description="Searches the library for passages that look like the query. Similarity 1: "
        "the model cannot tell them apart; about 0: no more alike than two frames at random.",
    )
    command.add_argument(
        "query",
        metavar="QUERY",
        nargs="?",
        help="a picture's path, - for the standard input, or a moment: films/NAME@1:23.4",
    )
    command.add_argument(
        "--latent", metavar="FILE", help=".npy, .npz, or a line of encode --json; one latent"
    )
    _add_films(command)
    command.add_argument(
        "--from", dest="start", metavar="TIME", type=_time, help=f"not before: {_TIME}"
    )
    command.add_argument("--to", dest="end", metavar="TIME", type=_time, help="not after")
    command.add_argument(
        "--min-similarity", type=float, default=0.0, metavar="X", help="0 to 1 (default: 0)"
    )
    command.add_argument("-k", type=_count, default=10, metavar="N", help="hits (default: 10)")
    command.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N")
    command.add_argument(
        "--save", metavar="FILE", help="the previews as one picture to look at: .png, .jpg, .webp"
    )
    command.set_defaults(run=_questions.search)


def _add_match(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "match", parents=[common, chosen], help="which film a clip comes from, and where it lies"
    )
    command.add_argument("clip", metavar="CLIP", help="its path; - for the standard input")
    _add_films(command)
    command.add_argument("-k", type=_count, default=1, metavar="N", help="matches (default: 1)")
    command.set_defaults(run=_questions.match)


def _add_duplicates(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "duplicates",
        parents=[common, chosen],
        help="passages that appear more than once, within and across films",
    )
    _add_films(command)
    command.add_argument(
        "--min-similarity", type=float, default=0.9, metavar="X", help="0.5 to 1 (default: 0.9)"
    )
    command.add_argument(
        "--min-duration",
        type=_time,
        default=Fraction(2),
        metavar="TIME",
        help="of a passage (default: 2s)",
    )
    command.set_defaults(run=_questions.duplicates)


def _add_interpolate(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "interpolate",
        parents=[common, chosen],
        help="what lies between two moments, as a film or as pictures",
    )
    for name, about in (("first", "the first picture"), ("last", "the last picture")):
        command.add_argument(
            name, metavar="FILM@TIME", type=_moment, help=f"{about}: films/NAME@1:23.4"
        )
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="a film (.mp4), or a folder that is not there yet, for pictures",
    )
    command.add_argument(
        "--steps", type=int, default=24, metavar="N", help="pictures, with both ends (default: 24)"
    )
    command.add_argument(
        "--mode",
        choices=("linear", "spherical"),
        default="linear",
        help="in a straight line, or along the great circle",
    )
    command.add_argument(
        "--format", choices=("jpeg", "png"), help="of pictures in a folder (default: jpeg)"
    )
    command.add_argument(
        "--frame-rate",
        type=float,
        default=24.0,
        metavar="FPS",
        help="of the film: pictures a second (default: 24)",
    )
    command.set_defaults(run=_between.interpolate)


def _add_frame(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "frame",
        parents=[common],
        help="one frame of a film as a model remembers it",
        description="Saves one frame of a film of the library as a model remembers it, 256 x 144.",
    )
    command.add_argument(
        "moment",
        metavar="NAME[@TIME]",
        type=_moment_of_part,
        help="films/NAME/renditions/… or films/NAME/latents/…, as `film` shows them, @1:23.4",
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the picture: .jpg, .png or .webp"
    )
    command.set_defaults(run=_between.frame)


def _moment_of_part(text: str) -> tuple[str, Fraction]:
    name, _, time = text.partition("@")
    return name, _time(time) if time else Fraction(0)


def _add_latents(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    command = commands.add_parser(
        "latents", parents=[common, chosen], help="every latent of a film as one file"
    )
    command.add_argument("film", metavar="FILM", type=film_name, help="films/NAME, or NAME")
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help=".npy: float32 [frames, 200]; .arrow: with the frames' times",
    )
    command.set_defaults(run=_between.latents)
