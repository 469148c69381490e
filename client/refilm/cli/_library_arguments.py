"""The command line's arguments for the library."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from refilm.cli import _jobs, _library

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_Parser = argparse.ArgumentParser


def film_name(text: str) -> str:
    """Returns the name of a film that is given by name or by id."""
    return text if "/" in text else f"films/{text}"


def add_look(command: _Parser) -> None:
    """Adds the options for a reconstruction's appearance."""
    command.add_argument(
        "--layout",
        choices=("reconstruction", "side_by_side"),
        default="reconstruction",
        help="the reconstruction, or the source on its left",
    )
    command.add_argument(
        "--size",
        choices=("model", "source"),
        default="model",
        help="256 x 144, or as large as the source (at most 1920 x 1080)",
    )
    command.add_argument("--no-sound", action="store_true", help="leave the sound out")
    command.add_argument(
        "--quality", choices=("draft", "standard", "high"), default="standard", help="of the video"
    )


def add_naming(command: _Parser) -> None:
    """Adds the options for a film's title and id in the library."""
    command.add_argument("--title", default="", help="what people call the film (default: FILE's)")
    command.add_argument(
        "--id", default="", help='small letters, digits and "-" (default: made of the title)'
    )


def add(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    """Adds the commands."""
    _add_upload(commands, common)
    _add_films(commands, common)
    _add_download(commands, common)
    _add_delete(commands, common)
    _add_reconstructions(commands, common, chosen)


def _add_upload(commands: _Commands, common: _Parser) -> None:
    command = commands.add_parser(
        "upload",
        parents=[common],
        help="films into the library",
        description="Uploads films to the library. One that was interrupted goes on where it was "
        "when the same command is given again.",
    )
    command.add_argument(
        "files", metavar="FILE", nargs="+", help="a film's path; - for the standard input"
    )
    add_naming(command)
    command.set_defaults(run=_library.upload)


def _add_films(commands: _Commands, common: _Parser) -> None:
    command = commands.add_parser("films", parents=[common], help="the films of the library")
    command.add_argument(
        "--filter",
        default="",
        metavar="TERMS",
        help="only some, for example 'title:\"bunny\" AND duration > 600s'; fields: film_id, "
        "title, size_bytes, digest, create_time, duration, width, height, container, video_codec",
    )
    command.set_defaults(run=_library.films)

    command = commands.add_parser(
        "film", parents=[common], help="one film, its renditions and latents"
    )
    command.add_argument("film", metavar="FILM", type=film_name, help="films/NAME, or NAME")
    command.set_defaults(run=_library.film)


def _add_download(commands: _Commands, common: _Parser) -> None:
    command = commands.add_parser(
        "download", parents=[common], help="a film's source, a rendition or latents"
    )
    command.add_argument(
        "name",
        metavar="NAME",
        type=film_name,
        help="films/NAME, films/NAME/renditions/… or films/NAME/latents/…, as `film` shows them",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="a file or a folder; - for the standard output (default: a name that suits it, here)",
    )
    command.set_defaults(run=_library.download)


def _add_delete(commands: _Commands, common: _Parser) -> None:
    command = commands.add_parser(
        "delete", parents=[common], help="films and everything made of them, for good"
    )
    command.add_argument(
        "films", metavar="FILM", nargs="+", type=film_name, help="films/NAME, or NAME"
    )
    command.add_argument("--yes", action="store_true", help="do not ask, also on a terminal")
    command.set_defaults(run=_library.delete)


def _add_reconstructions(commands: _Commands, common: _Parser, chosen: _Parser) -> None:
    group = commands.add_parser(
        "reconstructions", help="reconstructions of library films that outlive this command"
    )
    words = group.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = words.add_parser("list", parents=[common], help="those of one film, or all")
    command.add_argument("film", metavar="FILM", type=film_name, nargs="?", help="films/NAME")
    command.set_defaults(run=_jobs.show_all)

    command = words.add_parser("start", parents=[common, chosen], help="start one")
    command.add_argument("film", metavar="FILM", type=film_name, help="films/NAME, or NAME")
    add_look(command)
    command.add_argument("--watch", action="store_true", help="wait until it has ended")
    command.set_defaults(run=_jobs.start)

    for word, run, about in (
        ("show", _jobs.show, "how far one is"),
        ("watch", _jobs.watch, "wait until one has ended; Ctrl-C ends the waiting alone"),
        ("cancel", _jobs.cancel, "cancel one; what is finished is kept for the next"),
    ):
        command = words.add_parser(word, parents=[common], help=about)
        command.add_argument("name", metavar="NAME", help="as `list` shows it")
        command.set_defaults(run=run)
