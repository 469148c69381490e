"""The model card: what a published version is, beside its weights and in Triton's configuration."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch

from trainer.errors import PublishError


def digest_of(encoder: Path, decoder: Path) -> str:
    """Return a pair's identity: sha256 over the sha256 of the encoder's file and the decoder's."""
    both = hashlib.sha256()
    for path in (encoder, decoder):
        with path.open("rb") as file:
            both.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{both.hexdigest()}"


def complete_card(
    card: Mapping[str, object], *, name: str, version: int, digest: str
) -> dict[str, object]:
    """Complete a recipe's card for publication; name, version and digest come first."""
    identity: dict[str, object] = {"name": name, "version": version, "digest": digest}
    given = {key: value for key, value in card.items() if key not in identity}
    complete = identity | given
    complete.setdefault("created", datetime.now(UTC).isoformat(timespec="seconds"))
    complete.setdefault("git_revision", git_revision())
    complete.setdefault("torch", torch.__version__)
    return complete


def card_text(card: Mapping[str, object], *, indent: int | None = None) -> str:
    """Write a card as JSON; compact unless indented.

    Raises:
        PublishError: The card holds values JSON cannot represent, such as NaN or infinity.
    """
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(card, indent=indent, separators=separators, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PublishError(f"The model card cannot be written as JSON: {error}") from error


def git_revision() -> str:
    """Return the git revision of the trainer's checkout; empty outside a checkout.

    Ends in `+` if tracked files have uncommitted changes.
    """
    here = Path(__file__).parent
    try:
        revision = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603 (fixed words)
    return done.stdout.strip()
