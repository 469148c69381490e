"""A run directory: what one training made, and all that publication needs to know of it.

    <run>/encoder.pt, decoder.pt    the pair as TorchScript (see `trainer.export`)
    <run>/run.json                  recipe, settings, data, digest of the pair
    <run>/evaluation/               written by `trainer.evaluate`

`run.json` is written last and names the digest of the pair, so a run that was killed while it was
being finished is told from a finished one. Recipes keep checkpoints and the like beside these.
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
"""Train on all frames (the film is the memory), or leave the held-out blocks unseen."""


def fitted_data(folder: Path, fit: Fit) -> FrameDataset:
    """Open a data set with the frames to train on as its `fitted` ones.

    Raises:
        DatasetError: There is none.
    """
    data = FrameDataset.open(folder)
    return data if fit == "fitted" else data.with_all_fitted()


class Run:
    """A run directory."""

    def __init__(self, folder: Path) -> None:
        """Take the directory; it need not exist yet."""
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
        """Write what training made; replaces what an earlier training left here.

        Args:
            encoder: A module that keeps the contract of `trainer.export`.
            decoder: Likewise.
            recipe: The recipe's name.
            settings: What was asked for, as JSON can say it.
            data: What was trained on.
            training: How it went (steps, seconds, losses), as JSON can say it.
        """
        # Files are staged under their own names: a TorchScript archive is named after its file.
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
            RunError: There is none, or the pair beside it is another one.
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
            raise RunError(f"The run in {self.folder} is of another format: train it anew")
        if facts["digest"] != digest:
            raise RunError(
                f"The run in {self.folder} was interrupted while it was being finished: "
                "train it again"
            )
        return facts

    def is_finished(self) -> bool:
        """Tell whether `facts` can be read."""
        try:
            self.facts()
        except RunError:
            return False
        return True

    def card(self) -> dict[str, object]:
        """Make the model card of a finished run, with the results of its evaluation if it had one.

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
        """Read the evaluation's summary; nothing if there is none, or it is of an older pair."""
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
    """Replace a JSON file at once, safely on disk when this returns.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
