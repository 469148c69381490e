"""How models are trained: a module a recipe.

A recipe's module has two functions: `add_arguments(parser)` adds what can be set for it on the
command line, beside what all recipes take (`--data`, `--run`, `--fit`), and `train(options)` trains
and finishes the run (`trainer.run.Run.finish`).
"""

import argparse
import importlib
from typing import Protocol, cast

RECIPES = {
    "pca": "trainer.recipes.pca",
    "broad2016": "trainer.recipes.broad2016.recipe",
    "fidelity": "trainer.recipes.fidelity.recipe",
}
"""Recipes by name, and the module of each; a module is imported when it is asked for."""


class Recipe(Protocol):
    """What a recipe's module offers the command line."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recipe's own arguments."""

    def train(self, options: argparse.Namespace) -> None:
        """Train, or go on training, in the run directory `options.run`."""


def recipe(name: str) -> Recipe:
    """Return the module of a recipe named in `RECIPES`."""
    return cast(Recipe, importlib.import_module(RECIPES[name]))
