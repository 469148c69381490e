"""Durable, atomic writes of files and folders."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    staged = path.with_name(f".{path.name}")
    staged.write_text(text, "utf-8")
    sync(staged)
    staged.replace(path)
    sync(path.parent)
