"""Measures everything and writes docs/quality.md with its pictures.

    python -m benchmarks.quality --bunny FILM --sintel FILM --runs DIR [--every N]

DIR holds finished runs by fixed names: bunny_small, bunny_large, bunny_general_small,
bunny_general_large, bunny_perceptual, bunny_broad2016, and the same for sintel. Missing runs are
left out and listed. A film may also be a prepared data set. This command trains the baselines and
runs the codecs itself. Measurements are cached in the work folder by the digest of the model: an
interrupted report continues, and a retrained model is measured again.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.quality.collect import Collector, ablations, open_film
from benchmarks.quality.draw import draw
from benchmarks.quality.measurer import Measurer
from benchmarks.quality.page import IMAGES, Report, page
from benchmarks.report import ROOT, Machine
from trainer.durable import replace_text
from trainer.errors import TrainerError

FILMS = ROOT / ".refilm" / "films"
TITLES = {"bunny": "Big Buck Bunny", "sintel": "Sintel, first 3 minutes"}
DEFAULTS = {
    "bunny": FILMS / "big_buck_bunny_640x360.mp4",
    "sintel": FILMS / "sintel_first3min_640x274.mp4",
}
ABLATIONS = ROOT / "benchmarks" / "results" / "ablations.json"


def main(arguments: list[str] | None = None) -> int:
    """Write the report; return the process's exit status."""
    options = _parse(arguments)
    try:
        report(options)
    except TrainerError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def report(options: argparse.Namespace) -> None:
    """Measure, draw and write.

    Raises:
        TrainerError: A film or a run cannot be read.
    """
    machine = Machine.here()
    measurer = Measurer(options.work, options.every, _say)
    collector = Collector(measurer, options.runs, _say)
    films = {
        key: open_film(title, getattr(options, key), options.work / "data", _say)
        for key, title in TITLES.items()
    }
    found = [collector.film(key, film) for key, film in films.items()]
    foreign = collector.foreign("bunny", films["bunny"], films["sintel"])
    images = {one.film.title: draw(one, measurer, options.out / IMAGES, _say) for one in found}
    collected = Report(
        films=found,
        foreign={(TITLES["bunny"], TITLES["sintel"]): foreign},
        ablations=ablations(options.ablations),
        every=options.every,
        curve_every=measurer.curve_every,
        machine=machine,
        images=images,
    )
    replace_text(options.out / "quality.md", page(collected))
    _say(f"wrote {options.out / 'quality.md'}")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=str(__doc__).splitlines()[0]
    )
    for key, title in TITLES.items():
        parser.add_argument(
            f"--{key}", type=Path, default=DEFAULTS[key], metavar="FILM", help=title
        )
    parser.add_argument("--runs", type=Path, default=ROOT / ".refilm" / "runs", metavar="DIR")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="measure every n-th frame"
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".refilm" / "quality", metavar="DIR")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="DIR")
    parser.add_argument("--ablations", type=Path, default=ABLATIONS, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.every < 1:
        parser.error("--every takes a whole number from 1 on")
    for key, title in TITLES.items():
        if not getattr(options, key).exists():
            parser.error(
                f"there is no film at {getattr(options, key)}: name a file of {title} with --{key} "
                "(docs/quality.md says where the films come from)"
            )
    return options


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
