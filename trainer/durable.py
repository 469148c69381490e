"""Files and folders that survive a power failure once they are there."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Put a file's content, or a folder's list of names, safely on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file at once: a reader sees the old one or the new one, whole."""
    staged = path.with_name(f".{path.name}")
    staged.write_text(text, "utf-8")
    sync(staged)
    staged.replace(path)
    sync(path.parent)
