"""The page of the retrieval benchmark."""

from dataclasses import dataclass, field

from benchmarks.report import Machine

METHODS = ("refilm", "pHash 64", "pixels 16 x 9")


@dataclass(slots=True)
class Counts:
    """Counts for the queries of one length under one distortion."""

    queries: int = 0
    ambiguous: int = 0
    right: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METHODS, 0))
    """Of those that are not ambiguous."""
    answered: int = 0
    """Of those, found by refilm with enough confidence for an answer."""
    right_ambiguous: int = 0
    unknown: int = 0
    rejected: int = 0
    bars: int = 0
    """Queries in which bars were found."""

    @property
    def unique(self) -> int:
        """Queries with one right answer."""
        return self.queries - self.ambiguous


Results = dict[tuple[str, int], Counts]
"""By distortion and length."""

_QUESTION = """\
How often is a frame, or a clip, found again within a second of where it lies, after it was
distorted? A `pca` model is fitted to the first film; both films are the library. Queries are
pictures of distorted copies of the films, 4.8 a second; clips begin every 2.5 s, single frames
are taken every 1.04 s.

- **refilm**: the service's own code: bars found by each query's own pictures and cut off,
  embeddings as they are stored (float16), candidates from the index of one row a second, places
  proposed, aligned and judged (`service.search.alignment`). Its best place counts here, whatever
  its confidence; single frames are searched exactly among all frames. Only the reads from the
  store are replaced by arrays.
- **pHash 64**: imagehash's 64-bit perceptual hash; **pixels 16 x 9**: RGB averages, root mean
  square difference. Both get the same pictures with the same bars cut off, and the best alignment
  there is: the clip is laid upon every frame of every film, and the least mean distance wins.
- **answered**: the right place, with a confidence of 0.5 or more, so that MatchClip tells it.

**No unique answer**, decided by the undistorted source alone: more than half of the query's
pictures are flat (a detail below 4, see `film/quality.py`: black, faded), or there is another
passage, more than a second away or in the other film, whose pictures differ from the query's by
less than 4 grey levels (root mean square at 64 x 36, the mean over the query's pictures; static
shots and repeated passages). 4 levels is what re-encoding at low quality alone changes: 4.1 in
the middle on both films. These queries are counted apart, and left out of the percentages.
"""

_DONE = """\
Distortions: **re-encoded**: x264 at crf 42 (under 40 kbit/s); **resized** to 320 x 240, whatever
the aspect; **letterboxed**: black bars up to 4:3; **brightened**: 1.15 x level ^ 0.75 + 0.06;
**watermarked**: a plate with letters, 75 % opaque, over 10 % of the picture, top right; **all
together**: all of these, in the order brighten, watermark, bars, resize, encode. All but the
first are also encoded at crf 23.
"""


def page(results: dict[str, Results], machine: Machine) -> str:
    """Return the page.

    Args:
        results: by film, the one that the model was fitted to first.
        machine: where it was measured.
    """
    lines = ["# Finding frames and clips again", "", _QUESTION, _DONE, str(machine)]
    lines += [
        "Reproduce it with `python -m benchmarks.retrieval FITTED.mp4 OTHER.mp4 --work FOLDER`."
    ]
    lengths = dict.fromkeys(length for counts in results.values() for _, length in counts)
    for length in lengths:
        lines += ["", f"## {_title(length)}: Recall@1 within 1 s, %", ""]
        lines += _recall(results, length)
    lines += ["", "## Unknown clips: each film's clips against a library without it", ""]
    lines += _unknown_clips(results)
    return "\n".join(lines) + "\n"


def _title(length: int) -> str:
    return f"Clips of {length} s" if length else "Single frames"


def _recall(results: dict[str, Results], length: int) -> list[str]:
    films = list(results)
    titles = ["", *(f"**{METHODS[0]}**",), *films, "answered", *METHODS[1:], "queries"]
    lines = [_line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for distortion in dict.fromkeys(name for name, _ in results[films[0]]):
        of_films = [results[film][distortion, length] for film in films]
        unique = sum(one.unique for one in of_films)

        def share(method: str, some: list[Counts] = of_films, of: int = unique) -> str:
            return _percent(sum(one.right[method] for one in some), of)

        answered = _percent(sum(one.answered for one in of_films), unique) if length else "-"
        cells = [distortion, f"**{share(METHODS[0])}**"]
        cells += [_percent(one.right[METHODS[0]], one.unique) for one in of_films]
        cells += [answered, *(share(method) for method in METHODS[1:]), str(unique)]
        lines.append(_line(cells))
    counted = [results[film][name, length] for film in films for name, _ in results[film]]
    one_form = [results[film][next(iter(results[film]))[0], length] for film in films]
    ambiguous = sum(one.ambiguous for one in one_form)
    note = f"No unique answer: {ambiguous} of {sum(one.queries for one in one_form)} queries"
    if ambiguous:
        right = sum(one.right_ambiguous for one in counted)
        rate = _percent(right, sum(one.ambiguous for one in counted))
        note += f"; of those in all forms, refilm has {rate} % right all the same"
    return [*lines, "", f"{note}."]


def _unknown_clips(results: dict[str, Results]) -> list[str]:
    lines = [_line(["film", "length", "clips", "rejected", "%"]), _line(["---", *["---:"] * 4])]
    whole: list[Counts] = []
    for film, counts in results.items():
        for length in dict.fromkeys(length for _, length in counts if length):
            some = [one for (_, own), one in counts.items() if own == length]
            whole += some
            lines.append(_line([film, f"{length} s", *_rejected(some)]))
    lines.append(_line(["both", "all", *_rejected(whole)]))
    return [
        *lines,
        "",
        "In all forms, undistorted and distorted; ambiguous and black clips included.",
    ]


def _rejected(some: list[Counts]) -> list[str]:
    clips = sum(one.unknown for one in some)
    rejected = sum(one.rejected for one in some)
    return [str(clips), str(rejected), _percent(rejected, clips)]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
