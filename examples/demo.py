"""The demo: a film goes through 200 numbers a frame and comes out again.

    python examples/demo.py [FILM]        (make demo [FILM=path] sets everything up first)

Trains a model on the film, publishes it to a Triton model repository, starts the service and
reconstructs the film through its gRPC interface. Everything lies below .refilm/, by the film's
digest, and what is there already is used again.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import refilm
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "films" / "big_buck_bunny_60s.mp4"
START_SECONDS = 120
"""How long the service may take until the model answers."""

console = Console()


@dataclass(frozen=True)
class Outputs:
    """Where the demo's results lie."""

    reconstruction: Path
    side_by_side: Path
    contact_sheet: Path
    metrics: Path

    def films_exist(self) -> bool:
        """Whether both films were made before; each appears only when it is whole."""
        return self.reconstruction.exists() and self.side_by_side.exists()


def main() -> None:
    """Run the demo and say where its pictures lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", nargs="?", type=Path, default=CLIP, help="a film of your own")
    film = parser.parse_args().film.expanduser()
    if not film.is_file():
        sys.exit(f"There is no film at {film}.")

    home = Path(os.environ.get("REFILM_DEMO_HOME", ROOT / ".refilm"))
    slug = re.sub(r"[^a-z0-9]+", "_", film.stem.lower()).strip("_")[:40]
    key = f"{slug or 'film'}-{file_digest(film)[:8]}"
    work, repository, model = home / "demo" / key, home / "models", f"pca-{key}"
    outputs = Outputs(
        reconstruction=work / f"{film.stem}_reconstruction.mp4",
        side_by_side=work / f"{film.stem}_side_by_side.mp4",
        contact_sheet=work / "run" / "evaluation" / "contact_sheet.png",
        metrics=work / "run" / "evaluation" / "metrics.json",
    )

    train_and_publish(film, model, work, repository)
    if not outputs.films_exist():
        with service(repository, model, work) as address:
            reconstruct(film, address, model, outputs)
    report(film, outputs)


def train_and_publish(film: Path, model: str, work: Path, repository: Path) -> None:
    """Make a model of this film and put it where Triton finds it; skip what was done before."""
    data, run = work / "data", work / "run"
    if not data.exists():
        trainer("prepare", film, "--out", data)
    if not (run / "run.json").exists():
        trainer("train", "--recipe", "pca", "--fit", "all", "--data", data, "--run", run)
    if not (run / "evaluation" / "metrics.json").exists():
        # Every tenth frame tells as much as all, in a tenth of the time.
        trainer("evaluate", "--run", run, "--data", data, "--every", "10")
    if not (repository / f"{model}_encoder" / "1").exists():
        trainer("publish", "--run", run, "--name", model, "--repository", repository)


def trainer(*arguments: str | Path) -> None:
    """Run `python -m trainer` and end the demo if it fails; it has said why."""
    done = subprocess.run([sys.executable, "-m", "trainer", *arguments], cwd=ROOT)
    if done.returncode != 0:
        sys.exit(done.returncode)


@contextmanager
def service(repository: Path, model: str, work: Path) -> Iterator[str]:
    """Run `python -m service` over a repository; yields its address once the model answers."""
    address_file, log = work / "service.json", work / "service.log"
    address_file.unlink(missing_ok=True)
    environment = os.environ | {
        "REFILM_PORT": "0",
        "REFILM_METRICS_PORT": "0",
        "REFILM_ADDRESS_FILE": str(address_file),
        "REFILM_MODEL_REPOSITORIES": str(repository),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with console.status("Starting the service and its Triton Inference Server"):
            address = wait_until_it_answers(process, address_file, model, log)
        yield address
    finally:
        process.terminate()
        process.wait()


def wait_until_it_answers(
    process: subprocess.Popen[bytes], address_file: Path, model: str, log: Path
) -> str:
    """Return the service's address as soon as the model can be asked."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
        if not address_file.exists():
            continue
        address = str(json.loads(address_file.read_text())["grpc"])
        with refilm.Client(address) as client:
            try:
                client.model(model)
            except (refilm.NotFoundError, refilm.UnavailableError):
                continue
            return address
    sys.exit(f"The service did not come up; its log is {log}.")


def reconstruct(film: Path, address: str, model: str, outputs: Outputs) -> None:
    """Send the film through the service twice: alone, and beside the original."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.fields[frames]:>6} frames"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with refilm.Client(address) as client, Progress(*columns, console=console) as bars:
        bar = bars.add_task("The film", total=1.0, frames=0, rate="")
        client.reconstruct(film, outputs.reconstruction, model=model, progress=shown_on(bars, bar))
        bar = bars.add_task("Beside the original", total=1.0, frames=0, rate="")
        client.reconstruct(
            film,
            outputs.side_by_side,
            model=model,
            layout="side_by_side",
            size="source",
            progress=shown_on(bars, bar),
        )


def shown_on(bars: Progress, bar: TaskID) -> Callable[[refilm.Progress], None]:
    """Return a callback that shows a reconstruction's progress on `bar`."""

    def show(progress: refilm.Progress) -> None:
        rate = progress.frames_per_second
        bars.update(
            bar,
            completed=progress.fraction,
            frames=progress.frames_written,
            rate=f"{rate:.0f}/s" if rate else "",
        )

    return show


def report(film: Path, outputs: Outputs) -> None:
    """Say what came out, and where it lies."""
    measured = json.loads(outputs.metrics.read_text())["groups"]["all"]
    console.print(
        f"\n[bold]{film.name}[/bold], through 200 numbers a frame: "
        f"PSNR {measured['psnr']['mean']:.1f} dB, MS-SSIM {measured['ms_ssim']['mean']:.3f}\n"
    )
    for what, path in (
        ("reconstruction", outputs.reconstruction),
        ("beside the original", outputs.side_by_side),
        ("contact sheet", outputs.contact_sheet),
    ):
        console.print(f"  {what:<20} {os.path.relpath(path)}", soft_wrap=True, highlight=False)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
