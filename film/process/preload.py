"""Imports, before children are forked, what would otherwise be imported lazily.

A confined process cannot open files, so it cannot import modules.
"""

import importlib
import pkgutil
from types import ModuleType

_NUMPY = ("ma", "linalg", "fft", "random", "polynomial", "rec", "char", "strings", "ctypeslib")
"""Parts of numpy that it loads lazily, some within other functions."""


def preload(*packages: ModuleType) -> None:
    """Load all modules of some packages, and all of numpy that codecs and this project may use."""
    for name in _NUMPY:
        importlib.import_module(f"numpy.{name}")
    for package in packages:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
