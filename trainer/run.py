"""A run directory: one training's results, and everything needed to publish them.

    <run>/encoder.pt, decoder.pt    the pair as TorchScript (see `trainer.export`)
    <run>/run.json                  recipe, settings, data, digest of the pair
    <run>/evaluation/               written by `trainer.evaluate`

`run.json` is written last and has the digest of the pair, so a run that was killed while finishing
can be told from a finished one. Recipes keep checkpoints and the like in the same directory.
"""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from trainer.card import digest_of, git_revision
from trainer.dataset import FrameDataset
from trainer.durable import replace_text
from trainer.errors import RunError
from trainer.export import save_torchscript

FORMAT = 1

Fit = Literal["all", "fitted"]
"""Train on all frames, or leave out the held-out blocks."""


def fitted_data(folder: Path, fit: Fit) -> FrameDataset:
    """Open a data set whose `fitted` frames are those to train on.

    Raises:
        DatasetError: It does not exist.
    """
    data = FrameDataset.open(folder)
    return data if fit == "fitted" else data.with_all_fitted()


class Run:
    """A run directory."""

    def __init__(self, folder: Path) -> None:
        """Take the directory, which need not exist yet."""
        self.folder = folder
        self.encoder = folder / "encoder.pt"
        self.decoder = folder / "decoder.pt"
        self.evaluation = folder / "evaluation"
        self._facts = folder / "run.json"

    def finish(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        recipe: str,
        settings: Mapping[str, object],
        data: FrameDataset,
        training: Mapping[str, object],
    ) -> None:
        """Write the results of a training, replacing those of an earlier one.

        Args:
            encoder: A module that keeps the contract of `trainer.export`.
            decoder: Likewise.
            recipe: The recipe's name.
            settings: The recipe's settings, JSON-serialisable.
            data: What was trained on.
            training: Statistics (steps, seconds, losses), JSON-serialisable.
        """
        # Staged under the final names: a TorchScript archive contains its file's name.
        staging = self.folder / ".staging"
        staging.mkdir(parents=True, exist_ok=True)
        for module, path in ((encoder, self.encoder), (decoder, self.decoder)):
            save_torchscript(module, staging / path.name)
            (staging / path.name).replace(path)
        shutil.rmtree(staging)
        facts = {
            "format": FORMAT,
            "recipe": recipe,
            "settings": dict(settings),
            "digest": digest_of(self.encoder, self.decoder),
            "data": {"digest": data.digest, "sampling": data.sampling},
            "films": [
                {"title": film.title, "digest": film.digest, "frames": film.frames}
                for film in data.films
            ],
            "frames": len(data.fitted),
            "training": dict(training),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "git_revision": git_revision(),
            "torch": torch.__version__,
        }
        write_json(self._facts, facts)

    def facts(self) -> dict[str, object]:
        """Read `run.json`, of a finished run.

        Raises:
            RunError: There is none, or it does not match the pair.
        """
        try:
            facts = json.loads(self._facts.read_text("utf-8"))
            digest = digest_of(self.encoder, self.decoder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{self.folder} holds no finished run: train one with `python -m trainer train`"
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(f"The run in {self.folder} is damaged: {error}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise RunError(f"The run in {self.folder} has another format: train it again")
        if facts["digest"] != digest:
            raise RunError(
                f"The run in {self.folder} was interrupted while finishing: train it again"
            )
        return facts

    def is_finished(self) -> bool:
        """Return whether `facts` can be read."""
        try:
            self.facts()
        except RunError:
            return False
        return True

    def card(self) -> dict[str, object]:
        """Make the model card of a finished run, with its evaluation's metrics if there are any.

        Raises:
            RunError: The run is not finished.
        """
        facts = self.facts()
        card = {
            key: facts[key]
            for key in ("recipe", "created", "films", "frames", "git_revision", "torch")
        }
        card["training"] = {
            "settings": facts["settings"],
            "data": facts["data"],
            **_object(facts["training"]),
        }
        metrics = self._metrics(facts["digest"])
        return card | ({"metrics": metrics} if metrics else {})

    def _metrics(self, digest: object) -> dict[str, object]:
        """Read the evaluation's summary; empty if there is none for this pair."""
        path = self.evaluation / "metrics.json"
        try:
            metrics = _object(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged: {error}") from error
        model = _object(metrics.get("model"))
        return _object(metrics.get("summary")) if model.get("digest") == digest else {}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Replace a JSON file atomically and durably.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
