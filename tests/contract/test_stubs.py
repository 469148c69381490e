"""The committed stubs are what proto/ says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)

    fresh = {file.name: file.read_text() for file in (tmp_path / "refilm" / "v1").iterdir()}
    committed = {
        name: (ROOT / "client" / "refilm" / "v1" / name).read_text()
        for name in fresh
        if (ROOT / "client" / "refilm" / "v1" / name).exists()
    }
    assert committed == fresh, "stubs are stale: run make proto"
