"""Does memory grow with the film's length?

Peak resident memory of the service, of its Triton with the stubs, and of a client, while films of
one minute and of ten are reconstructed.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.film_client import peak_kilobytes
from benchmarks.packets import copy_film
from benchmarks.report import ROOT, Report, Row, Table
from benchmarks.rounds import ratio


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    times: int = 10
    """How often the long film repeats the short one."""
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak resident memory of each side in MiB, in the order of `SIDES`."""

    values: tuple[float, float, float]


CLIENT = (sys.executable, "-m", "benchmarks.film_client")
SIDES = ("the service", "Triton and its stubs", "the client")


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Reconstruct the short film and the long one in turn."""
    plan = plan or Plan()
    short = environment.film
    long = copy_film(short, environment.folder / "long.mp4", times=plan.times)
    _reconstruct(environment, short)  # Warm-up.
    peaks: dict[Path, list[Peaks]] = {short: [], long: []}
    for _ in range(plan.rounds):
        for film, found in peaks.items():
            found.append(_reconstruct(environment, film))

    rows = []
    for number, side in enumerate(SIDES):
        before = [peak.values[number] for peak in peaks[short]]
        after = [peak.values[number] for peak in peaks[long]]
        least, most = min(before), max(after)
        figures = (f"{least:.0f}", f"{most:.0f}", f"{most - least:+.0f}")
        rows.append(Row(side, ratio(after, before), figures))
    return Report(
        name="memory",
        title="Memory and the film's length",
        question=(
            f"Does memory grow with the film? A film, and the same film {plan.times} times in a "
            f"row, reconstructed in turn after a warm-up."
        ),
        tables=(
            Table(
                title="Peak resident memory",
                ratio_title=f"{plan.times} times as long to once",
                figure_titles=("MiB, once", f"MiB, {plan.times} times", "difference"),
                rows=tuple(rows),
                note=(
                    "MiB: the smallest peak for the short film, the largest for the long one. "
                    "Shared memory counts in each of Triton's processes."
                ),
            ),
        ),
    )


def _reconstruct(environment: Environment, film: Path) -> Peaks:
    triton = [process.pid for process in environment.service.children()]
    for process in (environment.service.process.pid, *triton):
        # Resets the peak to the current value.
        Path(f"/proc/{process}/clear_refs").write_text("5", "utf-8")
    client = subprocess.run(
        [*CLIENT, environment.service.address, str(film), str(environment.folder / "out.mp4")],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    kilobytes = (
        peak_kilobytes(environment.service.process.pid),
        sum(peak_kilobytes(process) for process in triton),
        int(client.stdout),
    )
    service, server, caller = (value / 1024 for value in kilobytes)
    return Peaks((service, server, caller))
