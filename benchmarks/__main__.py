"""Runs benchmarks and writes their reports.

python -m benchmarks                # all
python -m benchmarks encode memory  # these
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    bench_encode,
    bench_frame_store,
    bench_library,
    bench_memory,
    bench_reconstruct,
    bench_search_scaling,
)
from benchmarks.environment import Environment, start_environment, train_model
from benchmarks.report import ROOT, Machine, Report, markdown, write
from service.logs import configure

RESULTS = Path(__file__).parent / "results"

BENCHMARKS: dict[str, Callable[[Environment], Report]] = {
    "encode": bench_encode.run,
    "reconstruct": bench_reconstruct.run,
    "memory": bench_memory.run,
    "frame_store": bench_frame_store.run,
    "search_scaling": bench_search_scaling.run,
    "library": bench_library.run,
}


def main() -> None:
    """Run the benchmarks named on the command line, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f'there is no benchmark "{name}"; there are {", ".join(BENCHMARKS)}')
    configure("auto", "error")
    machine = Machine.here()
    with tempfile.TemporaryDirectory(prefix="refilm-bench-") as temporary:
        folder = Path(temporary)
        repository = train_model(folder)
        for name in names:
            # A service for each, so that the memory of one does not count for the next.
            with start_environment(repository, folder / name) as environment:
                report = BENCHMARKS[name](environment)
            print(markdown(report, machine))
            print(f"Written to {write(report, machine, RESULTS).relative_to(ROOT)}\n", flush=True)


if __name__ == "__main__":
    main()
