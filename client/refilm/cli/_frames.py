"""`refilm encode` and `refilm decode`."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from refilm._arrays import load_latents
from refilm._client import Client
from refilm._errors import RequestError
from refilm._latents import LatentsFile
from refilm._values import Encoding, ImageFormat, ModelIdentity
from refilm.cli._interrupt import with_client
from refilm.cli._usage import UsageError, binary_stdout, in_plain_words

_FORMATS: dict[str, ImageFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}
_NUMBER_FIELD = re.compile(r"%0?\d*d")


def encode(options: argparse.Namespace) -> int:
    """Encodes pictures: one line each, or a file of latents."""
    if options.json and options.output:
        raise UsageError("--json prints the latents and -o saves them: give one of the two")
    if options.embedding and not options.json:
        raise UsageError("--embedding goes with --json")

    def show_or_save(client: Client) -> None:
        encodings = _named(client, options)
        if options.output:
            _save(encodings, Path(options.output))
            return
        for name, encoding in encodings:
            if options.json:
                print(json.dumps(_as_json(name, encoding)), flush=True)
            else:
                first = " ".join(f"{value:.4g}" for value in encoding.latent[:4])
                model = encoding.model
                print(f"{name}  {model.name} v{model.version}  {first} … ({len(encoding.latent)})")

    with_client(options.address, show_or_save)
    return 0


def _named(client: Client, options: argparse.Namespace) -> Iterator[tuple[str, Encoding]]:
    pictures: list[str] = options.pictures
    done = 0
    try:
        for encoding in client.encode_stream(
            (_stdin() if name == "-" else name for name in pictures),
            model=options.model,
            version=options.version,
            embedding=options.embedding,
        ):
            yield pictures[done], encoding
            done += 1
    except RequestError as error:
        # A faulty frame ends the stream after the answers to all before it.
        if error.violations and done < len(pictures):
            raise ValueError(f"{pictures[done]}: {in_plain_words(error)}") from error
        raise


def _stdin() -> bytes:
    # On gRPC's thread: if that still read sys.stdin, it would hold a lock that the
    # interpreter needs to exit.
    with io.FileIO(sys.stdin.fileno(), closefd=False) as file:
        return file.readall()


def _as_json(name: str, encoding: Encoding) -> dict[str, object]:
    answer: dict[str, object] = {
        "picture": name,
        "model": dataclasses.asdict(encoding.model),
        "latent": [float(value) for value in encoding.latent],
    }
    if encoding.embedding is not None:
        answer["embedding"] = [float(value) for value in encoding.embedding]
    return answer


def _save(encodings: Iterable[tuple[str, Encoding]], path: Path) -> None:
    with LatentsFile(path) as file:
        count = 0
        for _, encoding in encodings:
            file.write_rows([encoding.latent])
            count += 1
        file.commit(encoding.model)
    model = encoding.model
    print(f"{path}: [{count}, {len(encoding.latent)}], {model.name} v{model.version}")


def decode(options: argparse.Namespace) -> int:
    """Decodes latents: a picture, or one a latent."""
    latents, made_by = read_latents(options.latents)
    output: str = options.output
    numbered = _NUMBER_FIELD.search(output)
    if len(latents) > 1 and not numbered:
        raise UsageError(
            f"{options.latents} holds {len(latents)} latents: give -o a number field, "
            "for example frame-%04d.png"
        )
    suffix = ".png" if output == "-" else Path(output).suffix.lower()
    if suffix not in _FORMATS:
        raise UsageError(f"pictures are saved as {', '.join(_FORMATS)}, not as {suffix or output}")
    stdout = binary_stdout() if output == "-" else None

    model: str | ModelIdentity = options.model
    if not options.model and not options.version and made_by is not None:
        model = made_by

    def save(client: Client) -> None:
        pictures = client.decode_stream(
            latents, model=model, version=options.version, format=_FORMATS[suffix]
        )
        for index, picture in enumerate(pictures):
            if stdout is not None:
                stdout.write(picture.data)
                continue
            field = numbered.group() if numbered else ""
            path = Path(output.replace(field, field % index) if field else output)
            path.write_bytes(picture.data)
            if options.json:
                model_json = dataclasses.asdict(picture.model)
                print(json.dumps({"picture": str(path), "model": model_json}), flush=True)
            else:
                print(f"{path}  {picture.model.name} v{picture.model.version}", flush=True)

    with_client(options.address, save)
    return 0


def read_latents(name: str) -> tuple[Sequence[Sequence[float]], ModelIdentity | None]:
    """Returns a file's latents, and the model that made them if it says so.

    Raises:
        ValueError: It holds no latents, or latents of different models.
        OSError: It cannot be read.
    """
    if name != "-" and Path(name).suffix in (".npy", ".npz"):
        latents, facts = load_latents(Path(name))
        # A digest alone selects the version that made them, whatever it is called by now.
        digest = facts.get("digest")
        return latents, ModelIdentity("", 0, digest) if digest else None
    text = sys.stdin.read() if name == "-" else Path(name).read_text()
    rows: list[array[Any]] = []
    digests: set[str] = set()
    for line in filter(str.strip, text.splitlines()):
        try:
            value = json.loads(line)
            rows.append(array("f", value["latent"] if isinstance(value, dict) else value))
            digests.add(value["model"]["digest"] if isinstance(value, dict) else "")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(
                f"{name}: line {len(rows) + 1} is neither a list of numbers nor what "
                "encode --json prints"
            ) from error
    if not rows:
        raise ValueError(f"{name} holds no latents")
    if len(digests) > 1:
        raise ValueError(f"{name} holds latents of different models, which do not mix")
    digest = digests.pop()
    return rows, ModelIdentity("", 0, digest) if digest else None
