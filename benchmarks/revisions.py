"""This revision against another one: ReconstructVideo's processor time, wall time, and starts.

python -m benchmarks.revisions CHECKOUT [--rounds N]

CHECKOUT is a checkout of the other revision with a `.venv` of its own. Both services run at once,
each with a Triton of its own and the same `pca` model, and are called by turns. Processor time is
that of the whole service: its own process, films' processes, Triton.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import psutil

from benchmarks.environment import EXAMPLE_FILM, train_model
from benchmarks.report import ROOT
from benchmarks.rounds import ratio
from film.limits import FilmLimits
from film.process.film_process import FilmProcesses
from film.process.protocol import CUBE_MAIN, FILM_MAIN
from film.process.spawner import Spawner
from tests.support.service_process import wait_for

_CLIENT = """
import io, sys, time, refilm
with refilm.Client(sys.argv[1]) as client:
    while True:
        try:
            client.reconstruct(sys.argv[2], io.BytesIO())
            break
        except refilm.UnavailableError:  # Its model is not loaded yet.
            time.sleep(0.5)
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A revision's service that runs."""

    checkout: Path
    address: str
    process: psutil.Process

    def reconstruct(self, film: Path) -> tuple[float, float]:
        """Reconstruct a film; return the seconds that it took, and the service's processor time."""
        cpu, began = self._cpu_seconds(), time.perf_counter()
        subprocess.run(
            [_python(self.checkout), "-c", _CLIENT, self.address, str(film)],
            cwd=self.checkout,
            check=True,
        )
        return time.perf_counter() - began, self._cpu_seconds() - cpu

    def _cpu_seconds(self) -> float:
        """Return that of all processes below the service, those that have ended included."""
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
        return total


@contextmanager
def served(checkout: Path, repository: Path, folder: Path) -> Iterator[Served]:
    """Run a checkout's service."""
    folder.mkdir()
    addresses = folder / "addresses.json"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REFILM_")},
        "REFILM_PORT": "0",
        "REFILM_METRICS_PORT": "0",
        "REFILM_ADDRESS_FILE": str(addresses),
        "REFILM_MODEL_REPOSITORIES": str(repository),
        "REFILM_STORAGE_DIRECTORY": str(folder / "library"),
        "REFILM_LOG_LEVEL": "error",
    }
    command = [_python(checkout), "-m", "service"]
    with subprocess.Popen(command, cwd=checkout, env=environment) as process:
        try:
            wait_for(lambda: addresses.exists() or None, "the service")
            address = json.loads(addresses.read_text())["grpc"]
            yield Served(checkout, address, psutil.Process(process.pid))
        finally:
            process.terminate()


def _python(checkout: Path) -> str:
    return str(checkout / ".venv/bin/python")


async def _start_milliseconds(times: int) -> list[float]:
    """Time how long a film's process takes to start, until it has answered."""
    spawner = Spawner([FILM_MAIN, CUBE_MAIN])
    await spawner.start()
    processes = FilmProcesses(spawner, FilmLimits())
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        async with processes.film() as film:
            await film.begin_sequence(Fraction(24), 1)
            taken.append((time.perf_counter() - began) * 1000)
    await spawner.close()
    return taken


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    other = arguments.checkout.resolve()
    with tempfile.TemporaryDirectory(prefix="refilm-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        repository = train_model(folder)
        services = [
            stack.enter_context(served(checkout, repository, folder / name))
            for name, checkout in (("this", ROOT), ("other", other))
        ]
        taken: list[list[tuple[float, float]]] = [[], []]
        for number in range(arguments.rounds + 1):  # The first one warms up.
            for place in (0, 1) if number % 2 else (1, 0):
                result = services[place].reconstruct(EXAMPLE_FILM)
                if number:
                    taken[place].append(result)
        for what, index in (("wall seconds", 0), ("processor seconds", 1)):
            this, before = ([figures[index] for figures in each] for each in taken)
            compared = ratio(this, before)
            print(
                f"{what}: {median(this):.2f} against {median(before):.2f}; ratio "
                f"{compared.median:.3f} ({compared.lowest:.3f} to {compared.highest:.3f})"
            )
    starts = asyncio.run(_start_milliseconds(50))
    print(f"a film's process starts in {median(starts):.1f} ms ({min(starts):.1f} at best)")


if __name__ == "__main__":
    main()
