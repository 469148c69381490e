"""`refilm interpolate`, `frame` and `latents`."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from refilm._client import Client
from refilm._film_values import Film
from refilm._question_values import PictureFormat
from refilm._times import Seconds
from refilm._values import ImageFormat, ModelIdentity
from refilm.cli._interrupt import with_client
from refilm.cli._report import size
from refilm.cli._show import json_line
from refilm.cli._times import format_time
from refilm.cli._usage import UsageError

_SUFFIXES = {"jpeg": ".jpg", "png": ".png"}
_FORMATS: dict[str, ImageFormat] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
}


def interpolate(options: argparse.Namespace) -> int:
    """Interpolates between two moments, as a film or as pictures in a folder."""
    output = Path(options.output)
    if output.suffix.lower() == ".mp4":
        if options.format is not None:
            raise UsageError("--format is for pictures: -o a folder, not a film")
        count, model = options.steps, with_client(options.address, lambda c: _film(c, options))
    elif output.suffix:
        raise UsageError(f"-o names a film (.mp4) or a folder, not {output.name}")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} is there already and not empty: name another folder")
    else:
        count, model = with_client(options.address, lambda c: _pictures(c, options, output))
    if options.json:
        json_line({"output": str(output), "pictures": count, "model": dataclasses.asdict(model)})
    else:
        print(f"{output}: {count} pictures, {model.name} v{model.version}")
    return 0


def _film(client: Client, options: argparse.Namespace) -> ModelIdentity:
    return client.interpolate_film(
        options.first,
        options.last,
        options.output,
        steps=options.steps,
        mode=options.mode,
        frame_rate=options.frame_rate,
        model=options.model,
        version=options.version,
    )


def _pictures(
    client: Client, options: argparse.Namespace, folder: Path
) -> tuple[int, ModelIdentity]:
    format: PictureFormat = options.format or "jpeg"
    first: tuple[str | Film, Seconds] = options.first
    pictures = client.interpolate(
        first,
        options.last,
        steps=options.steps,
        mode=options.mode,
        format=format,
        model=options.model,
        version=options.version,
    )
    digits = len(str(options.steps))
    # The folder appears when it is complete.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        unfinished = Path(scratch, "pictures")
        unfinished.mkdir()
        count = 0
        for picture in pictures:
            count += 1
            name = f"picture-{count:0{digits}}{_SUFFIXES[format]}"
            (unfinished / name).write_bytes(picture.data)
        if not count:
            raise ValueError("the service sent no pictures")
        unfinished.replace(folder)
    return count, picture.model


def frame(options: argparse.Namespace) -> int:
    """Saves one frame of a film as a model reconstructs it."""
    output = Path(options.output)
    format = _FORMATS.get(output.suffix.lower())
    if format is None:
        raise UsageError(f"pictures are saved as {', '.join(_FORMATS)}, not as {output.name}")
    name, time = options.moment
    picture = with_client(options.address, lambda client: client.frame(name, time, format=format))
    output.write_bytes(picture.data)
    model, shown = picture.model, picture.time or 0.0
    if options.json:
        json_line({"output": str(output), "time": shown, "model": dataclasses.asdict(model)})
    else:
        print(f"{output}: at {format_time(shown)}, {model.name} v{model.version}")
    return 0


def latents(options: argparse.Namespace) -> int:
    """Exports a film's latents."""
    written = with_client(
        options.address,
        lambda client: client.export_latents(
            options.film, options.output, model=options.model, version=options.version
        ),
    )
    if options.json:
        json_line({"film": options.film, "output": options.output, "size": written})
    else:
        print(f"{options.output}: {size(written)}")
    return 0
