"""Recipes: how models are trained, one module each.

A recipe's module has two functions: `add_arguments(parser)` adds its own command-line options to
the common ones (`--data`, `--run`, `--fit`), and `train(options)` trains and finishes the run
(`trainer.run.Run.finish`).
"""

import argparse
import importlib
from typing import Protocol, cast

RECIPES = {
    "pca": "trainer.recipes.pca",
    "broad2016": "trainer.recipes.broad2016.recipe",
    "fidelity": "trainer.recipes.fidelity.recipe",
}
"""Each recipe's module, by name; imported on demand."""


class Recipe(Protocol):
    """The interface of a recipe's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recipe's own arguments."""

    def train(self, options: argparse.Namespace) -> None:
        """Train, or resume training, in the run directory `options.run`."""


def recipe(name: str) -> Recipe:
    """Return the module of a recipe named in `RECIPES`."""
    return cast(Recipe, importlib.import_module(RECIPES[name]))
