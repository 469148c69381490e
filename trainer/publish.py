"""Publishes a trained pair as the next version of a model, whole or not at all.

    python -m trainer publish --run runs/bunny --name bunny --repository .refilm/models

A version is staged beside its final place in folders that Triton ignores, read back, run, and only
then renamed into place: decoder first, since a version counts once both halves are there. Killed
in between, what was published before is untouched, and the next publication clears the rest away.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from trainer.card import card_text, complete_card, digest_of
from trainer.durable import replace_text, sync
from trainer.errors import PublishError
from trainer.export import load_torchscript, save_torchscript
from trainer.triton_repository import (
    DECODER,
    ENCODER,
    check_name,
    complete_config,
    drop_facts,
    read_config,
    set_facts,
    versions,
    write_config,
)
from trainer.validate import validate

_STAGING = ".staging"


def publish(
    encoder: nn.Module | Path,
    decoder: nn.Module | Path,
    *,
    name: str,
    card: Mapping[str, object],
    repository: Path,
) -> int:
    """Write the next version of a model into a repository.

    Args:
        encoder: A module that keeps the contract of `trainer.export`, or its TorchScript file.
        decoder: Likewise.
        name: The model's name, by which services ask for it.
        card: What the recipe knows of the model; name, version, digest and the like are added.
        repository: The Triton model repository; made where it does not exist.

    Returns:
        The number of the new version.

    Raises:
        ContractError: The pair breaks the contract; nothing was published.
        PublishError: The name, the card or the repository is not fit for it; nothing was published.
    """
    check_name(name)
    halves = {half: repository / f"{name}_{half}" for half in (DECODER, ENCODER)}
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with _only_publisher(repository):
            for folder in halves.values():
                folder.mkdir(exist_ok=True)
            version = _next_version(halves)
            _clear_leftovers(halves)
            staged = {half: folder / _STAGING for half, folder in halves.items()}
            try:
                digest = _stage(staged, {ENCODER: encoder, DECODER: decoder})
                complete = complete_card(card, name=name, version=version, digest=digest)
                _put_in_place(halves, staged, name, version, complete)
            except BaseException:
                _take_back(halves, staged)
                raise
    except OSError as error:
        raise PublishError(f"Cannot write to the model repository: {error}") from error
    return version


@contextmanager
def _only_publisher(repository: Path) -> Iterator[None]:
    """Hold the repository for this publication; others wait. The lock dies with its process."""
    descriptor = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _next_version(halves: Mapping[str, Path]) -> int:
    """Return a number above all that were ever seen, a half version's included.

    A server may have loaded the half that an interrupted publication left, so its number is spent.
    """
    return max((v for folder in halves.values() for v in versions(folder)), default=0) + 1


def _clear_leftovers(halves: Mapping[str, Path]) -> None:
    """Remove what an interrupted publication left: stagings, and versions of one half only."""
    whole = set.intersection(*(set(versions(folder)) for folder in halves.values()))
    for folder in halves.values():
        for version in set(versions(folder)) - whole:
            shutil.rmtree(folder / str(version))
        shutil.rmtree(folder / _STAGING, ignore_errors=True)


def _take_back(halves: Mapping[str, Path], staged: Mapping[str, Path]) -> None:
    """Leave no trace of a publication that was refused."""
    for half, folder in halves.items():
        shutil.rmtree(staged[half], ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _stage(staged: Mapping[str, Path], pair: Mapping[str, nn.Module | Path]) -> str:
    """Write both halves, read them back and run them; return their digest."""
    files = {half: folder / "model.pt" for half, folder in staged.items()}
    for half, folder in staged.items():
        folder.mkdir()
        _write_half(pair[half], files[half])
    validate(load_torchscript(files[ENCODER]), load_torchscript(files[DECODER]))
    return digest_of(files[ENCODER], files[DECODER])


def _write_half(half: nn.Module | Path, path: Path) -> None:
    if isinstance(half, nn.Module):
        save_torchscript(half, path)
        return
    shutil.copyfile(half, path)
    sync(path)


def _put_in_place(
    halves: Mapping[str, Path],
    staged: Mapping[str, Path],
    name: str,
    version: int,
    card: Mapping[str, object],
) -> None:
    """Make the staged version visible: decoder, then encoder, each with its facts before it."""
    text = card_text(card, indent=2)
    configs = {half: read_config(folder) for half, folder in halves.items()}
    for half, folder in halves.items():
        replace_text(staged[half] / "card.json", text + "\n")
        complete_config(configs[half], name, half)
        drop_facts(configs[half], set(versions(folder)))
        compact = card_text(card) if half == ENCODER else None
        set_facts(configs[half], version, str(card["digest"]), compact)
    for half, folder in halves.items():
        write_config(folder, configs[half])
        staged[half].rename(folder / str(version))
        sync(folder)
