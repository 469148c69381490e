"""Runs benchmarks and writes what they find.

python -m benchmarks                # all
python -m benchmarks encode memory  # these
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import encode, frame_store, library, memory, reconstruct, search_scaling
from benchmarks.report import ROOT, Machine, Report, markdown, write
from benchmarks.stage import Stage, set_stage, train_model
from service.logs import configure

RESULTS = Path(__file__).parent / "results"

BENCHMARKS: dict[str, Callable[[Stage], Report]] = {
    "encode": encode.run,
    "reconstruct": reconstruct.run,
    "memory": memory.run,
    "frame_store": frame_store.run,
    "search_scaling": search_scaling.run,
    "library": library.run,
}


def main() -> None:
    """Run what the command line names, or everything."""
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
            # Each its own service: what one leaves allocated does not count for the next.
            with set_stage(repository, folder / name) as stage:
                report = BENCHMARKS[name](stage)
            print(markdown(report, machine))
            print(f"Written to {write(report, machine, RESULTS).relative_to(ROOT)}\n", flush=True)


if __name__ == "__main__":
    main()
