"""Nobody who was served yesterday is broken by what the contract says today."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "proto" / "baseline.binpb"

pytestmark = pytest.mark.skipif(
    not (ROOT / "node_modules/.bin/buf").exists(),
    reason="buf is not installed: npm install at the root installs it",
)


def buf(*arguments: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [ROOT / "node_modules/.bin/buf", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_baseline_is_of_the_contract_as_it_stands(tmp_path: Path) -> None:
    built = buf("build", "--exclude-source-info", "-o", tmp_path / "now.binpb")
    assert built.returncode == 0, built.stderr
    now = (tmp_path / "now.binpb").read_bytes()
    assert now == BASELINE.read_bytes(), "the baseline is stale: run make proto"


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("  string owner = 10;\n", "", 'field "10" with name "owner"'),
        ("  string owner = 10;\n", "  string keeper = 10;\n", "keeper"),
        ("  uint64 size_bytes = 4;\n", "  uint32 size_bytes = 4;\n", "size_bytes"),
        ("optional double mean_psnr_db = 13", "double mean_psnr_db = 13", "mean_psnr_db"),
        ("RECONSTRUCTION_STATE_QUEUED = 1;", "RECONSTRUCTION_STATE_WAITING = 1;", "QUEUED"),
        ("returns (stream WatchR", "returns (WatchR", "WatchReconstruction"),
    ],
)
def test_what_breaks_callers_is_refused(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    unchanged = buf("breaking", "--against", BASELINE, folder=tmp_path)
    assert unchanged.returncode == 0, unchanged.stdout

    library = tmp_path / "proto/refilm/v1/library.proto"
    text = library.read_text()
    assert before in text
    library.write_text(text.replace(before, after))
    broken = buf("breaking", "--against", BASELINE, folder=tmp_path)
    assert broken.returncode != 0
    assert complaint in broken.stdout
