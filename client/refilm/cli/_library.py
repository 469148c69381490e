"""`refilm upload`, `films`, `film`, `download` and `delete`."""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
from pathlib import Path

from refilm._client import Client
from refilm._errors import InvalidRequestError, NotFoundError
from refilm._film_values import DownloadFacts, Film
from refilm._output import FilmSink, Output
from refilm._source import FilmSource
from refilm._transfer import TransferMeter
from refilm.cli._interrupt import with_client
from refilm.cli._report import clock, size
from refilm.cli._show import as_json, json_line, moment, table
from refilm.cli._transfer_report import TransferReport, transfer_report
from refilm.cli._usage import UsageError, binary_stdout, in_plain_words

_MOST_UPLOADS = 100


def upload(options: argparse.Namespace) -> int:
    """Uploads films, one after the other."""
    files: list[str] = options.files
    if len(files) > 1 and (options.title or options.id):
        raise UsageError("--title and --id name one film: upload the others for themselves")
    if "-" in files:
        if not (options.title or options.id):
            raise UsageError("the standard input has no name: give --title or --id")
        if sys.stdin.isatty():
            raise UsageError("the standard input is a terminal: name a film, or use a pipe")

    def send(client: Client) -> None:
        for name in files:
            title = options.title or ("" if name == "-" else Path(name).stem)
            with transfer_report(options, name) as report:
                try:
                    film = _sent(client, name, title, options.id, report)
                except InvalidRequestError as error:
                    raise ValueError(f"{name}: {in_plain_words(error)}") from error
            if options.json:
                json_line({"event": "film", "file": name} | as_json(film))
            else:
                print(f"{film.name}  {_brief(film)}", flush=True)

    try:
        with_client(options.address, send)
    except KeyboardInterrupt:
        if "-" in files:
            raise
        raise KeyboardInterrupt("the same command goes on with what the service has") from None
    return 0


def _sent(client: Client, name: str, title: str, film_id: str, report: TransferReport) -> Film:
    for deleted in range(_MOST_UPLOADS):
        upload_id = "" if name == "-" else _upload_id(name, title, film_id, deleted)
        try:
            return client.upload_film(
                _opened(name),
                title=title,
                film_id=film_id,
                upload_id=upload_id,
                progress=report.progress,
            )
        except NotFoundError:
            # This same file was uploaded before, and the film has been deleted.
            if not upload_id:
                raise
    raise ValueError(f"{name} was uploaded and deleted {_MOST_UPLOADS} times")


def _opened(name: str) -> FilmSource:
    return io.FileIO(sys.stdin.fileno(), closefd=False) if name == "-" else name


def _upload_id(name: str, title: str, film_id: str, deleted: int) -> str:
    """Returns the same id for the same command on the same, unmodified file."""
    path = Path(name).resolve(strict=True)
    facts = path.stat()
    parts = (str(path), facts.st_size, facts.st_mtime_ns, title, film_id, deleted)
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _brief(film: Film) -> str:
    facts = film.facts
    duration = "" if facts.duration is None else f"{clock(facts.duration)}, "
    return f"{duration}{facts.width} x {facts.height} {facts.video_codec}, {size(film.size)}"


def films(options: argparse.Namespace) -> int:
    """Lists films, one line each."""

    def show(client: Client) -> None:
        found = client.films(filter=options.filter)
        if options.json:
            for film in found:
                json_line(_listed(film))
            return
        head = ("FILM", "TITLE", "DURATION", "PICTURE", "SIZE", "CREATED")
        table(head, [_row(film) for film in found], right=(2, 4))

    with_client(options.address, show)
    return 0


def _row(film: Film) -> tuple[str, ...]:
    facts = film.facts
    return (
        film.name,
        film.title,
        "?" if facts.duration is None else clock(facts.duration),
        f"{facts.width} x {facts.height} {facts.video_codec}",
        size(film.size),
        moment(film.created),
    )


def _listed(film: Film) -> dict[str, object]:
    facts = as_json(film)
    # A list does not include them: empty fields would say that there are none.
    del facts["renditions"], facts["latents"]
    return facts


def film(options: argparse.Namespace) -> int:
    """Shows one film with what was made from it."""
    found = with_client(options.address, lambda client: client.film(options.film))
    if options.json:
        json_line(as_json(found))
        return 0
    print(f"{found.name}  {found.title}")
    sounds = ", ".join(track.codec for track in found.facts.sound_tracks)
    for name, value in (
        ("", f"{_brief(found)}; sound: {sounds or 'none'}"),
        ("digest", found.digest),
        ("created", moment(found.created)),
    ):
        print(f"  {f'{name}: ' if name else ''}{value}")
    for rendition in found.renditions:
        look = rendition.settings
        print(
            f"{rendition.name}\n  {rendition.model.name} v{rendition.model.version}, "
            f"{look.layout}, size of the {look.size}, {'' if look.sound else 'no '}sound, "
            f"{look.quality}; {rendition.frames} frames, {clock(rendition.duration)}, "
            f"{size(rendition.size)}"
        )
    for latents in found.latents:
        print(
            f"{latents.name}\n  {latents.model.name} v{latents.model.version}; "
            f"[{latents.frames}, 200]"
        )
    return 0


def download(options: argparse.Namespace) -> int:
    """Downloads a film's source, a rendition or latents."""
    if options.output == "-" and options.json:
        raise UsageError("--json and -o - both want the standard output: name a file with -o")
    stdout = binary_stdout() if options.output == "-" else None

    def receive(client: Client) -> None:
        with transfer_report(options, options.name) as report:
            events = client.download_stream(options.name)
            facts = next(events)
            if not isinstance(facts, DownloadFacts):
                raise ValueError("the service began the download without saying what it is")
            out: FilmSink = stdout or _path(options.output, facts)
            meter = TransferMeter(report.progress, facts.size)
            with Output(out) as output:
                for event in events:
                    if isinstance(event, bytes):
                        output.write(event)
                        meter.went_on(output.written)
                output.commit()
                meter.finish(output.written)
        if options.json:
            json_line({"event": "download", "output": str(out)} | as_json(facts))
        elif stdout is None:
            print(f"{out}: {size(facts.size)}, {facts.media_type}")

    with_client(options.address, receive)
    return 0


def _path(output: str | None, facts: DownloadFacts) -> Path:
    # The service chose the name: use no folders from it, and replace no existing file.
    named = Path(Path(facts.file_name).name or "download")
    if output is not None and not Path(output).is_dir():
        return Path(output)
    path = named if output is None else Path(output) / named
    if path.exists():
        raise FileExistsError(None, "it is there already: name a file with -o", str(path))
    return path


def delete(options: argparse.Namespace) -> int:
    """Deletes films permanently."""
    names: list[str] = options.films
    if sys.stdin.isatty() and not options.yes:
        answer = input(f"Delete {', '.join(names)} with everything made of it, for good? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return 1

    def remove(client: Client) -> None:
        for name in names:
            client.delete_film(name)
            if options.json:
                json_line({"deleted": name})
            else:
                print(f"{name} deleted", flush=True)

    with_client(options.address, remove)
    return 0
