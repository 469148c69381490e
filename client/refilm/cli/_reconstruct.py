"""`refilm reconstruct`."""

from __future__ import annotations

import argparse
import io
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from refilm._client import Client
from refilm._errors import InvalidRequestError
from refilm._names import library_film
from refilm._output import FilmSink
from refilm.cli._interrupt import with_client
from refilm.cli._report import report_for
from refilm.cli._usage import UsageError, binary_stdout, in_plain_words


class WatchedFile(io.FileIO):
    """A film that knows how much of it was read, for a bar that moves before the first answer."""

    position = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.position += len(data or b"")
        return data


def run(options: argparse.Namespace) -> int:
    """Reconstructs a film."""
    output: str = options.output or _default_output(options.film)
    if output == "-" and options.json:
        raise UsageError("--json and -o - both want the standard output: name a file with -o")
    out: FilmSink = binary_stdout() if output == "-" else output
    if options.film == "-" and sys.stdin.isatty():
        raise UsageError("the standard input is a terminal: name a film, or use a pipe")
    if (options.title or options.id) and not options.store:
        raise UsageError("--title and --id go with --store")
    kept = library_film(options.film)
    if kept and options.store:
        raise UsageError(f"{kept} is in the library already: --store is for films of your own")
    started = time.monotonic()

    def reconstruct(client: Client) -> None:
        with report_for(options, film) as report:
            if film is None:
                result = client.watch(
                    options.film,
                    out,
                    model=options.model,
                    version=options.version,
                    layout=options.layout,
                    size=options.size,
                    sound=not options.no_sound,
                    quality=options.quality,
                    latents=options.latents,
                    progress=report.progress,
                )
            else:
                result = client.reconstruct(
                    film,
                    out,
                    model=options.model,
                    version=options.version,
                    layout=options.layout,
                    size=options.size,
                    sound=not options.no_sound,
                    quality=options.quality,
                    latents=options.latents,
                    store=options.store,
                    title=options.title or (_title(options.film) if options.store else ""),
                    film_id=options.id,
                    progress=report.progress,
                )
            report.done(result, output, time.monotonic() - started)

    film: WatchedFile | None = None
    try:
        with ExitStack() as files:
            if not kept:
                film = files.enter_context(_opened(options.film))
            with_client(options.address, reconstruct)
    except InvalidRequestError as error:
        raise ValueError(f"{options.film}: {in_plain_words(error)}") from error
    return 0


def _opened(film: str) -> WatchedFile:
    if film == "-":
        return WatchedFile(sys.stdin.fileno(), closefd=False)
    return WatchedFile(film)


def _title(film: str) -> str:
    return "" if film == "-" else Path(film).stem


def _default_output(film: str) -> str:
    if film == "-":
        return "-"
    kept = library_film(film)
    if kept:
        return f"{kept.partition('/')[2]}.reconstruction.mp4"
    path = Path(film)
    return str(path.with_name(f"{path.stem}.reconstruction.mp4"))
