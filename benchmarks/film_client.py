"""A client in its own process, which prints its peak memory.

python -m benchmarks.film_client ADDRESS FILM OUT
"""

import sys
from pathlib import Path

import refilm


def peak_kilobytes(process: int | str = "self") -> int:
    """Return a process's peak resident memory since its start, or since the peak was reset."""
    status = Path(f"/proc/{process}/status").read_text("utf-8")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    return int(facts["VmHWM"].split()[0])


def main(address: str, film: str, out: str) -> None:
    """Reconstruct a film and print the peak."""
    with refilm.Client(address) as client:
        client.reconstruct(film, out)
    print(peak_kilobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
