"""Make the synchronous client of the asynchronous one: `python client/tools/make_sync.py [OUT]`.

Reads the modules of refilm/aio that MODULES names and writes the same names in refilm/ below OUT
(default: client/).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENT = Path(__file__).parents[1]
PACKAGE = CLIENT / "refilm"
MODULES = (
    "_calls.py",
    "_client.py",
    "_films.py",
    "_frames.py",
    "_jobs.py",
    "_questions.py",
    "_reconstruct.py",
    "_reconstruction.py",
    "_stored_latents.py",
    "_transfers.py",
    "_transport.py",
    "_watch.py",
)
HEADER = "# Made of refilm/aio/{name} by `make proto`: edit that.\n# ruff: noqa: UP028\n"
REPLACEMENTS = {
    "refilm.aio._": "refilm._",
    "import ExitStack, aclosing, closing": "import ExitStack, closing",
    "import aclosing, closing": "import closing",
}


def make_sync(out: Path) -> None:
    """Write the synchronous client's modules below `out`."""
    target = out / "refilm"
    target.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        text = _without_async((PACKAGE / "aio" / name).read_text())
        # Shorter lines and other names fit and sort differently; some need no noqa.
        text = HEADER.format(name=name) + text
        text = _ruff(text, name, "check", "--fix-only", "--fixable=I,RUF100")
        (target / name).write_text(_ruff(text, name, "format"))


def _without_async(text: str) -> str:
    for old, new in REPLACEMENTS.items():
        text = text.replace(old, new)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "async", "module.py")
        source.parent.mkdir()
        source.write_text(text)
        rule = unasync.Rule("/async/", "/sync/", {"aclosing": "closing"})
        unasync.unasync_files([str(source)], [rule])
        return Path(scratch, "sync", "module.py").read_text()


def _ruff(text: str, name: str, *arguments: str) -> str:
    # As the file that it will be, wherever it is written: imports are sorted by place.
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, *arguments, "--quiet", "--stdin-filename", PACKAGE / name, "-"]
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603  # our own tool
    return done.stdout


if __name__ == "__main__":
    make_sync(Path(sys.argv[1]) if len(sys.argv) > 1 else CLIENT)
