"""`refilm models` and `refilm health`."""

from __future__ import annotations

import argparse
import dataclasses
import json

from refilm._client import Client
from refilm.cli._interrupt import with_client
from refilm.cli._show import table

_SERVICE = "refilm.v1.AutoencoderService"
_EXIT_NOT_SERVING = 3


def models(options: argparse.Namespace) -> int:
    """Lists the models, one line a version."""
    found = with_client(options.address, Client.models)
    if options.json:
        for model in found:
            print(json.dumps(dataclasses.asdict(model)))
        return 0
    rows = []
    for model in found:
        for version in model.versions:
            notes = []
            if version.version == model.latest_version:
                notes.append("latest")
            if model.is_default:
                notes.append("default")
            rows.append(
                (
                    model.name,
                    str(version.version),
                    version.recipe,
                    version.digest[:19],
                    ", ".join(notes),
                )
            )
    table(("MODEL", "VERSION", "RECIPE", "DIGEST", ""), rows)
    return 0


def health(options: argparse.Namespace) -> int:
    """Says whether the service can answer, as a whole and for the autoencoder."""
    words = with_client(options.address, _healths)
    if options.json:
        print(json.dumps({name or "overall": word for name, word in words.items()}))
    else:
        for name, word in words.items():
            print(f"{name or 'overall'}: {word}")
    return 0 if all(word == "SERVING" for word in words.values()) else _EXIT_NOT_SERVING


def _healths(client: Client) -> dict[str, str]:
    return {name: client.health(name) for name in ("", _SERVICE)}
