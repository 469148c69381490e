"""A library that version 0.1 (revision 002c31e) wrote: see tests/fixtures/library_0_1."""

import tarfile
from pathlib import Path

from service.storage.folder import FolderStore

_PACKED = Path(__file__).parents[1] / "fixtures/library_0_1/library.tar.xz"

MODEL_DIGEST = "sha256:35a2e3e2db90b6ba7bf33c2cd0c22d1b05664b7c75457e1cc2f183a18f828109"
"""Of bunny, version 1."""
_HEXADECIMAL = MODEL_DIGEST.removeprefix("sha256:")
STANDARD = f"{_HEXADECIMAL}-6caf439489d963ca"
"""The rendition with the default settings, of the films whole, damaged and half."""
SIDE_BY_SIDE = f"{_HEXADECIMAL}-fc3f795449568170"
"""The rendition of the cancelled job."""
HALF_ATTEMPT = "000001-ab8912dc"
"""The attempt that was killed in the middle of the film half."""
DELETING_REQUEST = "8a9c5f2e-0000-4000-8000-000000000001"


def unpack(folder: Path) -> FolderStore:
    """Copy the library into a folder, as it was when its service was killed."""
    with tarfile.open(_PACKED) as packed:
        packed.extractall(folder, filter="data")
    return FolderStore(folder)
