"""The demo: a film goes through 200 numbers a frame and comes out again.

    python examples/demo.py [FILM [--minutes M]]    (make demo [FILM=path [MINUTES=m]] sets it up)

The film that comes with the project is reconstructed by the model in model_repository/, which was
trained on all of Big Buck Bunny. For a film of your own a model is trained first, and compared with
PCA. The film is reconstructed through the service's gRPC interface. All results are below .refilm/,
by the film's digest; existing ones are reused, and interrupted ones resumed.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import refilm
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "films" / "big_buck_bunny_60s.mp4"
MODEL_REPOSITORY = ROOT / "model_repository"
MODEL = "bunny"
"""The model that comes with the project."""

TRAINING = ("--recipe", "fidelity", "--size", "small", "--fit", "all")
"""The training of a model for the user's film."""
TRAINING_MINUTES = 4.0
EVERY = "10"
"""Evaluates every tenth frame, in a tenth of the time."""
START_SECONDS = 120
"""Timeout until the model is ready."""
END_SECONDS = 40
"""Timeout for the service to stop."""
LAST_LINES = 5
"""Of the service's log, printed when it failed."""
RESUMES = "Run the same command again to resume."

console = Console()


@dataclass(frozen=True)
class Outputs:
    """Paths of the demo's results."""

    reconstruction: Path
    side_by_side: Path
    evaluation: Path

    def films_exist(self) -> bool:
        """Whether both films exist; each is written atomically."""
        return self.reconstruction.exists() and self.side_by_side.exists()

    def is_evaluated(self) -> bool:
        """Whether the model was evaluated on the film before."""
        return is_evaluated(self.evaluation)


def main() -> None:
    """Run the demo and print the paths of its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", nargs="?", type=Path, help="a film of your own")
    parser.add_argument(
        "--minutes", type=float, help=f"how long to train on it (default: {TRAINING_MINUTES:g})"
    )
    options = parser.parse_args()
    if options.film is None and options.minutes is not None:
        parser.error("minutes are for a film of your own; the demo's film needs no training")
    home = Path(os.environ.get("REFILM_DEMO_HOME", ROOT / ".refilm"))
    try:
        if options.film is None:
            show_clip(home)
        else:
            minutes = TRAINING_MINUTES if options.minutes is None else options.minutes
            show_own_film(options.film.expanduser(), minutes, home)
    except KeyboardInterrupt:
        console.print(f"\nStopped. {RESUMES}")
        sys.exit(130)


def show_clip(home: Path) -> None:
    """Reconstruct the project's film with the project's model."""
    work = home / "demo" / f"{key_of(CLIP)}-{MODEL}-{digest_of_model()[:8]}"
    outputs = outputs_in(work, CLIP, work / "evaluation")
    if not outputs.films_exist():
        work.mkdir(parents=True, exist_ok=True)
        with service(MODEL_REPOSITORY, MODEL, work) as address:
            reconstruct(CLIP, address, MODEL, outputs)
    if not outputs.is_evaluated():
        data = work / "data"
        if not data.exists():
            trainer("prepare", CLIP, "--out", data, "--every", EVERY)
        which = ("--repository", MODEL_REPOSITORY, "--name", MODEL)
        trainer("evaluate", *which, "--data", data, "--out", outputs.evaluation)
    report(CLIP, outputs)


def show_own_film(film: Path, minutes: float, home: Path) -> None:
    """Train a model on a film, and reconstruct the film with it."""
    if not film.is_file():
        sys.exit(f"There is no film at {film}.")
    name = f"{key_of(film)}-{minutes:g}min".replace(".", "_")
    data, work = home / "demo" / key_of(film) / "data", home / "demo" / key_of(film) / name
    repository, run, pca = home / "models", work / "run", data.parent / "pca"
    outputs = outputs_in(work, film, run / "evaluation")

    if not data.exists():
        trainer("prepare", film, "--out", data)
    if not (run / "run.json").exists():
        console.print(
            f"Training a model on [bold]{film.name}[/bold]: first a memory of its frames, segment "
            f"by segment, then {minutes:g} minutes of refinement.\n"
            "Open this picture and watch it improve:\n\n"
            f"  {'live preview':<20} {os.path.relpath(run / 'preview.png')}\n",
            soft_wrap=True,
            highlight=False,
        )
        trainer("train", *TRAINING, "--minutes", str(minutes), "--data", data, "--run", run)
    if not (pca / "run.json").exists():
        trainer("train", "--recipe", "pca", "--fit", "all", "--data", data, "--run", pca)
    for each in (run, pca):
        if not is_evaluated(each / "evaluation"):
            trainer("evaluate", "--run", each, "--data", data, "--every", EVERY)
    if not (repository / f"{name}_encoder" / "1").exists():
        trainer("publish", "--run", run, "--name", name, "--repository", repository)
    if not outputs.films_exist():
        with service(repository, name, work) as address:
            reconstruct(film, address, name, outputs)
    report(film, outputs, pca / "evaluation")


def key_of(film: Path) -> str:
    """Name a film by its file's name and digest."""
    slug = re.sub(r"[^a-z0-9]+", "_", film.stem.lower()).strip("_")[:40]
    with film.open("rb") as file:
        return f"{slug or 'film'}-{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}"


def digest_of_model() -> str:
    """Read the digest of the project's model, of its newest version, in hexadecimal."""
    cards = (MODEL_REPOSITORY / f"{MODEL}_encoder").glob("*/card.json")
    newest = max(cards, key=lambda card: int(card.parent.name), default=None)
    if newest is None:
        sys.exit(f"There is no model {MODEL} in {MODEL_REPOSITORY}. Is the checkout complete?")
    return str(json.loads(newest.read_text())["digest"]).removeprefix("sha256:")


def outputs_in(work: Path, film: Path, evaluation: Path) -> Outputs:
    """Return the paths of a film's results."""
    return Outputs(
        reconstruction=work / f"{film.stem}_reconstruction.mp4",
        side_by_side=work / f"{film.stem}_side_by_side.mp4",
        evaluation=evaluation,
    )


def is_evaluated(evaluation: Path) -> bool:
    """Return whether an evaluation is complete: its contact sheets are drawn last."""
    return (evaluation / "worst_frames.png").exists()


def trainer(*arguments: str | Path) -> None:
    """Run `python -m trainer`, and exit if it fails; it prints its own error."""
    process = subprocess.Popen([sys.executable, "-m", "trainer", *arguments], cwd=ROOT)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it got Ctrl-C as well, and may be writing a checkpoint
        raise
    if status != 0:
        sys.exit(status)


@contextmanager
def service(repository: Path, model: str, work: Path) -> Iterator[str]:
    """Run `python -m service` over a repository; yields its address once the model is ready.

    If the service fails, the demo exits with the reason.
    """
    address_file, log = work / "service.json", work / "service.log"
    address_file.unlink(missing_ok=True)
    environment = os.environ | {
        "REFILM_PORT": "0",
        "REFILM_METRICS_PORT": "0",
        "REFILM_ADDRESS_FILE": str(address_file),
        "REFILM_LOG_FORMAT": "console",  # its last lines are printed if it fails
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
            address = wait_until_it_answers(process, address_file, model)
        yield address
    except (TimeoutError, refilm.RefilmError) as error:
        give_up(process, log, error)
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_it_answers(process: subprocess.Popen[bytes], address_file: Path, model: str) -> str:
    """Return the service's address as soon as the model is ready.

    Raises:
        TimeoutError: The service exited, or took too long.
    """
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
    raise TimeoutError(f"it was not ready within {START_SECONDS} s")


def give_up(process: subprocess.Popen[bytes], log: Path, error: Exception) -> NoReturn:
    """Exit because the service failed, with its exit status and the end of its log."""
    try:
        status = process.wait(timeout=2)  # a call may fail before its exit is known
    except subprocess.TimeoutExpired:
        what = f"The service cannot answer: {' '.join(str(error).split()).rstrip('.')}."
    else:
        by = f", {signal.Signals(-status).name}" if status < 0 else ""
        what = f"The service exited (exit status {status}{by})."
    said = log.read_text("utf-8", errors="replace").splitlines()[-LAST_LINES:]
    sys.exit("\n".join([f"{what} {RESUMES}", f"Its log, {log}, ends with:", *said]))


def reconstruct(film: Path, address: str, model: str, outputs: Outputs) -> None:
    """Reconstruct the film alone and side by side with the original, unless they exist."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.fields[frames]:>6} frames"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with refilm.Client(address) as client, Progress(*columns, console=console) as bars:
        call = partial(client.reconstruct, film, model=model)
        try:
            if not outputs.reconstruction.exists():
                bar = bars.add_task("The film", total=1.0, frames=0, rate="")
                call(outputs.reconstruction, progress=shown_on(bars, bar))
            if not outputs.side_by_side.exists():
                bar = bars.add_task("Beside the original", total=1.0, frames=0, rate="")
                shown = shown_on(bars, bar)
                call(outputs.side_by_side, layout="side_by_side", size="source", progress=shown)
        except refilm.RequestError as error:
            sys.exit(f"{film} cannot be reconstructed: {error}")


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


def report(film: Path, outputs: Outputs, pca: Path | None = None) -> None:
    """Print the results, a comparison with PCA, and the paths."""
    ours = measured(outputs.evaluation)
    than = "" if pca is None else f"; PCA with the same 200 numbers: {measured(pca)['psnr']:.1f} dB"
    console.print(
        f"\n[bold]{film.name}[/bold], through 200 numbers a frame: "
        f"PSNR {ours['psnr']:.1f} dB{than}; MS-SSIM {ours['ms_ssim']:.3f}\n",
        soft_wrap=True,
    )
    for what, path in (
        ("reconstruction", outputs.reconstruction),
        ("beside the original", outputs.side_by_side),
        ("contact sheet", outputs.evaluation / "contact_sheet.png"),
    ):
        console.print(f"  {what:<20} {os.path.relpath(path)}", soft_wrap=True, highlight=False)


def measured(evaluation: Path) -> dict[str, float]:
    """Read an evaluation's means over all measured frames."""
    metrics = json.loads((evaluation / "metrics.json").read_text())
    return dict(metrics["summary"]["all"])


if __name__ == "__main__":
    main()
