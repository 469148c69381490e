"""Make the synchronous client of the asynchronous one: `python client/tools/make_sync.py [OUT]`.

Reads refilm/aio/_client.py and writes refilm/_client.py below OUT (default: client/).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1]
SOURCE = CLIENT / "refilm" / "aio" / "_client.py"
TARGET = Path("refilm", "_client.py")
HEADER = "# Made of refilm/aio/_client.py by `make proto`: edit that.\n# ruff: noqa: UP028\n"
REPLACEMENTS = {
    "import ExitStack, closing, closing": "import ExitStack, closing",
    "# A call's timeout is a gRPC deadline, which the service knows too.\n": "",
    "# ruff: noqa: ASYNC109\n": "",
}


def make_sync(out: Path) -> Path:
    """Write the synchronous client below `out`; returns its path."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "async", SOURCE.name)
        source.parent.mkdir()
        source.write_text(SOURCE.read_text().replace("refilm.aio._platform", "refilm._platform"))
        rule = unasync.Rule("/async/", "/sync/", {"aclosing": "closing"})
        unasync.unasync_files([str(source)], [rule])
        text = HEADER + Path(scratch, "sync", SOURCE.name).read_text()
    for old, new in REPLACEMENTS.items():
        text = text.replace(old, new)
    # Shorter lines and other names fit and sort differently.
    text = _ruff(text, "check", "--select=I", "--fix")
    text = _ruff(text, "format")
    target = out / TARGET
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def _ruff(text: str, *arguments: str) -> str:
    # As the file that it will be, wherever it is written: imports are sorted by place.
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, *arguments, "--quiet", "--stdin-filename", CLIENT / TARGET, "-"]
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  # our own tool
    return done.stdout


if __name__ == "__main__":
    make_sync(Path(sys.argv[1]) if len(sys.argv) > 1 else CLIENT)
