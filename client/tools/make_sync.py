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
REPLACEMENTS = {
    "import ExitStack, closing, closing": "import ExitStack, closing",
    "# A call's timeout is a gRPC deadline, which the service knows too.\n": "",
    "# ruff: noqa: ASYNC109\n": "",
}
HEADER = "# Made of refilm/aio/_client.py by `make proto`: edit that.\n# ruff: noqa: UP028\n"


def make_sync(out: Path) -> Path:
    """Write the synchronous client below `out`; returns its path."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "async", SOURCE.name)
        source.parent.mkdir()
        source.write_text(SOURCE.read_text().replace("refilm.aio._platform", "refilm._platform"))
        rule = unasync.Rule("/async/", "/sync/", {"aclosing": "closing"})
        unasync.unasync_files([str(source)], [rule])
        text = HEADER + Path(scratch, "sync", SOURCE.name).read_text()
    target = out / "refilm" / "_client.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    for old, new in REPLACEMENTS.items():
        text = text.replace(old, new)
    target.write_text(text)
    # Shorter lines and other names fit and sort differently.
    ruff = [Path(sys.executable).with_name("ruff")]
    options = ["--quiet", "--config", CLIENT.parent / "pyproject.toml", target]
    subprocess.run([*ruff, "check", "--select=I,F811", "--fix", *options], check=True)  # noqa: S603  # our own tool
    subprocess.run([*ruff, "format", *options], check=True)  # noqa: S603  # as above
    return target


if __name__ == "__main__":
    make_sync(Path(sys.argv[1]) if len(sys.argv) > 1 else CLIENT)
