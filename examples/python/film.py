"""Reconstructs a film beside its source, and saves the latents of all its frames.

python examples/python/film.py FILM OUT.mp4 LATENTS.npz [HOST:PORT]
"""

import sys

import refilm


def show(progress: refilm.Progress) -> None:
    """Print the progress."""
    print(f"{progress.frames_written} frames of {progress.frames_total or 'unknown'}")


def main(film: str, out: str, latents: str, address: str = "127.0.0.1:50051") -> None:
    """Reconstruct one film."""
    with refilm.Client(address) as client:
        try:
            result = client.reconstruct(
                film, out, layout="side_by_side", latents=latents, progress=show
            )
        except refilm.DataLossError as error:
            sys.exit(str(error))
    print(f"{out}: {result.frames} frames, {result.duration:.1f} s, {result.model.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
