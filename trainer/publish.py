"""Publishes a trained pair atomically as the next version of a model.

    python -m trainer publish --run runs/bunny --name bunny --repository .refilm/models

A version is staged in folders that Triton ignores, read back, run, and only then renamed into
place: decoder first, since a version is complete once both halves are there. If publishing is
killed, earlier versions are untouched, and the next publication removes the leftovers.
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
        name: The model's name.
        card: The recipe's card; name, version, digest and the like are added.
        repository: The Triton model repository; created if it does not exist.

    Returns:
        The number of the new version.

    Raises:
        ContractError: The pair breaks the contract; nothing was published.
        PublishError: The name or the card is invalid, or the repository cannot be written to;
            nothing was published.
    """
    check_name(name)
    halves = {half: repository / f"{name}_{half}" for half in (DECODER, ENCODER)}
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with _only_publisher(repository):
            for folder in halves.values():
                folder.mkdir(exist_ok=True)
            version = _next_version(halves)
            _remove_incomplete(halves)
            staged = {half: folder / _STAGING for half, folder in halves.items()}
            try:
                digest = _stage(staged, {ENCODER: encoder, DECODER: decoder})
                complete = complete_card(card, name=name, version=version, digest=digest)
                _put_in_place(halves, staged, name, version, complete)
            except BaseException:
                _roll_back(halves, staged)
                raise
    except OSError as error:
        raise PublishError(f"Cannot write to the model repository: {error}") from error
    return version


@contextmanager
def _only_publisher(repository: Path) -> Iterator[None]:
    """Lock the repository; other publishers wait. A dead process's lock is released."""
    descriptor = os.open(repository, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _next_version(halves: Mapping[str, Path]) -> int:
    """Return a number above all that were ever used, incomplete versions included.

    A server may have loaded half of an interrupted publication, so its number is not reused.
    """
    return max((v for folder in halves.values() for v in versions(folder)), default=0) + 1


def _remove_incomplete(halves: Mapping[str, Path]) -> None:
    """Remove leftovers of interrupted publications: staging folders and half versions."""
    whole = set.intersection(*(set(versions(folder)) for folder in halves.values()))
    for folder in halves.values():
        for version in set(versions(folder)) - whole:
            shutil.rmtree(folder / str(version))
        shutil.rmtree(folder / _STAGING, ignore_errors=True)


def _roll_back(halves: Mapping[str, Path], staged: Mapping[str, Path]) -> None:
    """Remove everything of a publication that failed."""
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
    """Make the staged version visible: decoder, then encoder, each after its facts."""
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
