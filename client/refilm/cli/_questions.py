"""`refilm search`, `match` and `duplicates`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from refilm._client import Client
from refilm._errors import DataLossError, InvalidRequestError
from refilm._question_values import ClipMatch, DuplicatePair, Passage, SearchResult
from refilm._values import ModelIdentity
from refilm.cli._frames import read_latents
from refilm.cli._interrupt import with_client
from refilm.cli._reconstruct import WatchedFile
from refilm.cli._show import as_json, json_line, table
from refilm.cli._times import format_time, parse_time
from refilm.cli._usage import UsageError, in_plain_words

if TYPE_CHECKING:
    from refilm._question_wire import Query

_MOMENT = re.compile(r"(films/[^/@]+)@(.*)")


def search(options: argparse.Namespace) -> int:
    """Searches for passages that look like a picture, a moment or a latent."""
    if (options.query is None) == (options.latent is None):
        raise UsageError("name a picture, a moment such as films/NAME@1:23.4, or --latent FILE")
    if options.save:
        from refilm.cli import _sheet

        _sheet.check(Path(options.save))
    query, made_by = _query(options)
    model: str | ModelIdentity = options.model
    if not options.model and not options.version and made_by is not None:
        model = made_by

    def ask(client: Client) -> SearchResult:
        return client.search_frames(
            query,
            limit=options.k,
            skip=options.skip,
            min_similarity=options.min_similarity,
            films=options.films,
            start=options.start,
            end=options.end,
            previews=bool(options.save),
            model=model,
            version=options.version,
        )

    try:
        result = with_client(options.address, ask)
    except InvalidRequestError as error:
        raise ValueError(f"{options.query or options.latent}: {in_plain_words(error)}") from error
    if options.save:
        _sheet.save(result, Path(options.save))
    if options.json:
        saved = {"saved": options.save} if options.save else {}
        hits = [as_json(hit) for hit in result.hits]
        json_line(as_json(result) | {"hits": hits} | saved)
        return 0
    table(
        ("FILM", "TITLE", "FROM", "TO", "BEST", "SIMILARITY"),
        [
            (
                hit.film,
                hit.title,
                format_time(hit.start),
                format_time(hit.end),
                format_time(hit.best),
                f"{hit.similarity:.3f}",
            )
            for hit in result.hits
        ],
        right=(2, 3, 4, 5),
    )
    _say_what_was_asked(result.model, result.warning, result.films_searched, result.films_left_out)
    if options.save:
        print(f"{options.save}: {len(result.hits)} previews", file=sys.stderr)
    return 0


def _query(options: argparse.Namespace) -> tuple[Query, ModelIdentity | None]:
    if options.latent is not None:
        latents, made_by = read_latents(options.latent)
        if len(latents) != 1:
            raise UsageError(f"{options.latent} holds {len(latents)} latents: a search takes one")
        return list(latents[0]), made_by
    moment = _MOMENT.fullmatch(options.query)
    if moment is not None:
        return (moment[1], parse_time(moment[2])), None
    if options.query == "-":
        return sys.stdin.buffer.read(), None
    return str(options.query), None


def match(options: argparse.Namespace) -> int:
    """Says which film a clip comes from."""
    if options.clip == "-" and sys.stdin.isatty():
        raise UsageError("the standard input is a terminal: name a clip, or use a pipe")
    clip = WatchedFile(
        sys.stdin.fileno() if options.clip == "-" else options.clip, closefd=options.clip != "-"
    )
    try:
        with clip:
            result = with_client(
                options.address,
                lambda client: client.match_clip(
                    clip,
                    limit=options.k,
                    films=options.films,
                    model=options.model,
                    version=options.version,
                ),
            )
    except InvalidRequestError as error:
        raise ValueError(f"{options.clip}: {in_plain_words(error)}") from error
    except DataLossError as error:
        # Nothing of a clip is stored, so there is no partial result.
        raise ValueError(f"{options.clip}: {error}") from error
    if options.json:
        json_line(as_json(result))
        return 0
    if result.matches:
        head = ("FILM", "TITLE", "FROM", "TO", "CLIP FROM", "CLIP TO", "CONFIDENCE", "SIMILARITY")
        table(head, [_match_row(found) for found in result.matches], right=range(2, 8))
    else:
        print("no film of the library shows this clip")
    _say_what_was_asked(result.model, result.warning, result.films_searched, result.films_left_out)
    bars = result.bars
    if any((bars.left, bars.top, bars.right, bars.bottom)):
        print(
            f"bars cut off: left {bars.left}, top {bars.top}, right {bars.right}, "
            f"bottom {bars.bottom} pixels",
            file=sys.stderr,
        )
    return 0


def _match_row(found: ClipMatch) -> tuple[str, ...]:
    times = (found.start, found.end, found.clip_start, found.clip_end)
    sure = (f"{found.confidence:.2f}", f"{found.similarity:.3f}")
    return (found.film, found.title, *map(format_time, times), *sure)


def duplicates(options: argparse.Namespace) -> int:
    """Lists passages that appear more than once."""

    def show(client: Client) -> None:
        pairs = client.find_duplicates(
            films=options.films,
            min_similarity=options.min_similarity,
            min_duration=options.min_duration,
            model=options.model,
            version=options.version,
        )
        if options.json:
            for pair in pairs:
                json_line(as_json(pair))
            return
        head = ("FILM", "FROM", "TO", "FILM", "FROM", "TO", "SIMILARITY")
        table(head, [_pair_row(pair) for pair in pairs], right=(1, 2, 4, 5, 6))

    with_client(options.address, show)
    return 0


def _pair_row(pair: DuplicatePair) -> tuple[str, ...]:
    return (*_passage(pair.first), *_passage(pair.second), f"{pair.similarity:.3f}")


def _passage(passage: Passage) -> tuple[str, str, str]:
    return passage.film, format_time(passage.start), format_time(passage.end)


def _say_what_was_asked(model: ModelIdentity, warning: str, searched: int, left_out: int) -> None:
    left = f", {left_out} left out: not indexed for it" if left_out else ""
    print(
        f"{model.name} v{model.version}: {searched} film{'' if searched == 1 else 's'} "
        f"searched{left}",
        file=sys.stderr,
    )
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
