"""The quality report as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.quality.codecs import is_equal
from benchmarks.quality.collect import EQUAL_BYTES, FEATURE_MINUTES, PREVIEW_FRAMES, Findings
from benchmarks.quality.measurer import Figures
from benchmarks.report import Machine

IMAGES = "images"

_MEASURES = """\
Frames are scaled to 256 x 144. All figures are means over frames. **PSNR** is capped at 60 dB;
**worst** is its mean over the worst 5 % of frames. **SSIM**, **MS-SSIM** (7-tap window) and
**HaarPSI** are 1 for equal pictures. **Moves** is the correlation of the changes from frame to
frame with the film's own, over all shots; **static** the same over 240 changes spread over
the shots that hardly move (under 1 grey level a frame). Neither is taken across a cut.

**Bytes a frame** are the 200 numbers as float32 (800), or rounded to 8 bits (200): 256 even levels
over the range that each number has in the frames measured. For codecs they are the packets of the
whole film. **The decoder is not in these bytes.** A model's decoder is a file of its own, learned
once for the film; its size stands beside. A codec's decoder knows no film.

Codecs get the same frames, as 4:2:0 with 8 bits, at 24 frames a second, with their own defaults
otherwise: at constant quality, or at a target bit rate (one pass), so that the whole film has the
wanted bytes within 2 %. Which of the two is better depends on the film. A codec's frame also uses
the frames around it; a latent stands alone.
"""

_FILMS = """\
*Big Buck Bunny* (2008), (c) copyright 2008, Blender Foundation / www.bigbuckbunny.org, director
Sacha Goedegebure: 640 x 360, 24 frames a second, 9:56 with its credits. *Sintel* (2010),
(c) copyright Blender Foundation | www.sintel.org, director Colin Levy: its first 180 seconds,
640 x 274, 24 frames a second. Both are under
[Creative Commons Attribution 3.0](https://creativecommons.org/licenses/by/3.0/). They are not in
the repository: take them from their sites. Other encodings of them give slightly other figures."""

_RUNS = """\
The runs measured here were made like this, with `big_buck_bunny_640x360.mp4` and
`sintel_first3min_640x274.mp4` prepared as `bunny` and `sintel`; the tables say for how long:
the minutes are of the refinement, and its memory took up to five before. Sizes are `small` and
`large`, with `--batch 8`; runs called `general` have `--fit fitted`.

```sh
python -m trainer prepare big_buck_bunny_640x360.mp4 --out bunny
python -m trainer train --recipe fidelity --precision bf16 --size small --fit all --data bunny \\
    --run runs/bunny_small --minutes 3
python -m trainer train --recipe fidelity --precision bf16 --size large --fit fitted --data bunny \\
    --run runs/bunny_general_large --minutes 0
python -m trainer train --recipe fidelity --precision bf16 --size small --fit all --data bunny \\
    --run runs/bunny_perceptual --minutes 10 --batch 8 --finish perceptual --from runs/bunny_small
python -m trainer train --recipe broad2016 --precision bf16 --fit all --data bunny \\
    --run runs/bunny_1 --training 1 --batch 12 --minutes 5
python -m trainer train --recipe broad2016 --precision bf16 --fit all --data bunny \\
    --run runs/bunny_2 --training 2 --from runs/bunny_1 --batch 12 --minutes 5
```

`broad2016` is six such trainings, the last called `bunny_broad2016`; its steps and minutes are of
the last alone. The original trained for days on a GPU: half an hour of two cores is a beginning.
"""

_NOT_COUNTED = "The decoder is not in the bytes a frame: its size stands beside."


@dataclass(frozen=True, slots=True)
class Report:
    """The content of the page."""

    films: Sequence[Findings]
    foreign: Mapping[tuple[str, str], Sequence[Figures]]
    """By the titles of the models' film and of the measured one."""
    ablations: Sequence[Mapping[str, object]]
    every: int
    curve_every: int
    machine: Machine
    images: Mapping[str, Sequence[tuple[str, str]]]
    """By film title: what each picture shows, and its file's name."""


def page(report: Report) -> str:
    """Return the page."""
    lines = ["# How good the models are", "", str(report.machine), *_how(report), "", _MEASURES]
    for found in report.films:
        lines += _film(found, report)
    for (owner, title), figures in report.foreign.items():
        lines += ["", f"## {title}, through the models of {owner}", ""]
        lines += ["None of these models ever saw this film.", "", *_table(figures, "all")]
    lines += ["", "## How the runs were made", "", _RUNS]
    lines += _ablations(report.ablations)
    for found in report.films:
        for what, name in report.images.get(found.film.title, ()):
            lines += ["", f"## {found.film.title}: {what}", "", f"![{what}]({IMAGES}/{name})"]
    lines += ["", *_films_note()]
    return "\n".join(lines) + "\n"


def _how(report: Report) -> list[str]:
    which = _which(report.every)
    command = "make quality BUNNY=big_buck_bunny_640x360.mp4 SINTEL=sintel_first3min_640x274.mp4"
    return [
        f"All of it was measured in one run, on {which}: `{command} RUNS=runs"
        + ("" if report.every == 1 else f" EVERY={report.every}")
        + "`. An hour of `broad2016` without the held-out blocks is"
        " [measured apart](quality_broad2016.md)."
    ]


def _film(found: Findings, report: Report) -> list[str]:
    title, frames = found.film.title, len(found.film.data)
    lines = [f"## {title}: the film's own memory", ""]
    lines += [f"Models fitted to all {frames:,} frames, measured on those.", ""]
    lines += _table(found.memory, "all")
    if found.absent:
        names = ", ".join(f"`{name}`" for name in found.absent)
        lines += ["", f"Not measured, because there was no such run: {names}."]
    if found.trained:
        lines += ["", f"### {title}: what was trained", "", *_trained(found)]
    lines += ["", f"### {title}: by brightness", "", *_by_brightness(found.memory)]
    if found.general:
        lines += ["", f"## {title}: blocks that the models never saw", ""]
        lines += ["Every fifth block of 10 seconds was kept out of the training.", ""]
        lines += ["**Held-out blocks**", "", *_table(found.general, "held_out")]
        lines += ["", "**Fitted blocks**", "", *_table(found.general, "fitted")]
    if found.totals:
        lines += ["", f"## {title}: with the decoder counted", "", *_totals(found)]
    lines += ["", f"## {title}: PSNR against bytes a frame", "", *_rates(found, report)]
    if found.minutes:
        lines += ["", f"## {title}: PSNR against minutes of training", "", *_minutes(found)]
    return [*lines, ""]


def _table(figures: Sequence[Figures], group: str) -> list[str]:
    titles = ["model", "bytes a frame", "decoder, MB", "PSNR, dB", "worst", "SSIM", "MS-SSIM"]
    lines = [_line([*titles, "HaarPSI", "moves", "static"]), _line(["---", *["---:"] * 9])]
    for one in figures:
        measured = one.groups[group]
        cells = [one.name, _size(one), _megabytes(one.decoder_bytes)]
        cells += [
            _number(measured, "psnr", "mean", 2),
            _number(measured, "psnr", "worst_5_percent", 2),
        ]
        cells += [_number(measured, name, "mean", 3) for name in ("ssim", "ms_ssim", "haarpsi")]
        cells += [
            _number(measured, name, "correlation", 3) for name in ("temporal", "static_shots")
        ]
        lines.append(_line(cells))
    return [*lines, "", _NOT_COUNTED]


def _trained(found: Findings) -> list[str]:
    titles = ["run", "recipe", "frames", "on", "steps", "minutes", "encoder, MB", "decoder, MB"]
    lines = [_line(titles), _line(["---"] * 4 + ["---:"] * 4)]
    for one in found.trained:
        cells = [f"`{one.run}`", f"`{one.recipe}`", one.what, one.device or "-"]
        cells += ["-" if one.steps is None else f"{one.steps:,}"]
        cells += ["-" if one.minutes is None else f"{one.minutes:.1f}"]
        lines.append(_line([*cells, _megabytes(one.encoder_bytes), _megabytes(one.decoder_bytes)]))
    return lines


def _by_brightness(figures: Sequence[Figures]) -> list[str]:
    """PSNR of each tenth of the frames, the darkest first, at equal bytes."""
    equal = [
        one for one in figures if one.decoder_bytes is None or one.bytes_a_frame == EQUAL_BYTES
    ]
    parts = equal[0].groups["all"]["by_brightness"]
    assert isinstance(parts, list)
    ranges = [f"{part['from']:.0f} to {part['to']:.0f}" for part in parts]
    black = equal[0].groups["all"]["black"]
    note = (
        "PSNR in dB of each tenth of the frames, the darkest first, all at "
        f"{EQUAL_BYTES} bytes a frame (the decoder is not in these bytes)."
    )
    titles = ["mean luma", *ranges]
    if isinstance(black, dict):
        titles.append("black")
        note += (
            " The last column is how bright, of 255, the brightest of the "
            f"{black['frames']} black frames comes back (the mean over the picture)."
        )
    lines = [note, "", _line(titles), _line(["---", *["---:"] * (len(titles) - 1)])]
    for one in equal:
        tenths = one.groups["all"]["by_brightness"]
        assert isinstance(tenths, list)
        cells = [one.name, *(f"{part['psnr']:.1f}" for part in tenths)]
        if isinstance(black, dict):
            cells.append(_number(one.groups["all"], "black", "highest", 1))
        lines.append(_line(cells))
    return lines


def _totals(found: Findings) -> list[str]:
    titles = ["model", "film", "bytes a frame, decoder included", "PSNR, dB"]
    titles += ["SVT-AV1 preset 6, bytes a frame", "its PSNR, dB"]
    lines = [_line(titles), _line(["---", "---", *["---:"] * 4])]
    for one in found.totals:
        own = one.frames == len(found.film.data)
        length = "this one" if own else f"{FEATURE_MINUTES} minutes"
        cells = [f"{one.model}, 8 bits", f"{length}, {one.frames:,} frames"]
        cells += [f"{one.bytes_a_frame:,.0f}", f"{one.psnr:.2f}"]
        reached = f"{one.coded.bytes_a_frame:,.0f}"
        if not is_equal(one.coded, one.bytes_a_frame):
            reached += " (the nearest it comes)"
        lines.append(_line([*cells, reached, f"{one.coded_psnr:.2f}"]))
    note = (
        f"The {EQUAL_BYTES} bytes a frame of the tables above leave the decoder out. Here its file "
        "is spread over the frames of the film. The decoder's size does not grow with the film, "
        f"so a film of {FEATURE_MINUTES} minutes pays less a frame; both PSNRs are still those of "
        "this film, since no such film was trained on."
    )
    return [note, "", *lines]


def _rates(found: Findings, report: Report) -> list[str]:
    name = rate_image(found)
    lines = [
        "Latents of 2 to 8 bits a number, against codecs at several sizes; measured on "
        f"{_which(report.curve_every)}. The decoder is not in the bytes a frame.",
        "",
        f"![PSNR against bytes a frame]({IMAGES}/{name})",
        "",
    ]
    for group in (True, False):
        curves = {
            name: curve for name, curve in found.rates.items() if (name in found.models) == group
        }
        if group:
            sizes = [
                f"{size:.0f} ({size / 25:.0f} bits)" for size, _ in next(iter(curves.values()))
            ]
            lines += [_line(["bytes a frame", *sizes]), _line(["---", *["---:"] * len(sizes)])]
            lines += [
                _line([name, *(f"{value:.2f}" for _, value in curve)])
                for name, curve in curves.items()
            ]
        else:
            count = max(len(curve) for curve in curves.values())
            lines += ["", _line(["codec", *["bytes: dB"] * count])]
            lines += [_line(["---", *["---:"] * count])]
            lines += [
                _line([name, *(f"{size:.0f}: {value:.2f}" for size, value in curve)])
                for name, curve in curves.items()
            ]
    return lines


def _minutes(found: Findings) -> list[str]:
    lines = [
        f"Mean PSNR of the {PREVIEW_FRAMES} frames that a training's preview shows, evenly spread "
        "over the film, with float32 latents. "
        f"PCA-200, fitted to all frames, has {found.preview_pca:.2f} dB on the same frames. "
        "Minutes are of fitting the memory and of the steps after it, without drawing and saving; "
        "a dot shows where the memory is whole. Where its minutes are not known, the curve begins "
        "there.",
        "",
        f"![PSNR against minutes of training]({IMAGES}/{minutes_image(found)})",
        "",
        _line(["model", "the memory's minutes", *["minutes: dB"] * 5]),
        _line(["---", *["---:"] * 6]),
    ]
    for name, curve in found.minutes.items():
        points = [curve[round(part * (len(curve) - 1) / 4)] for part in range(5)]
        memory = f"{found.memory_minutes[name]:.1f}" if name in found.memory_minutes else "-"
        cells = [f"{minutes:.1f}: {value:.2f}" for minutes, value in points]
        lines.append(_line([name, memory, *cells]))
    return lines


def _ablations(rows: Sequence[Mapping[str, object]]) -> list[str]:
    if not rows:
        return []
    lines = ["", "## What each idea gained, alone", ""]
    lines += [
        _line(["idea", "what", "PSNR, dB", "difference", "HaarPSI"]),
        _line(["---", "---", "---:", "---:", "---:"]),
    ]
    for row in rows:
        cells = [str(row["name"]), str(row["what"]), f"{_float(row['psnr']):.2f}"]
        looks = f"{_float(row['haarpsi']):.4f}" if "haarpsi" in row else ""
        lines.append(_line([*cells, f"{_float(row['difference']):+.2f}", looks]))
    return lines


def _films_note() -> list[str]:
    return ["## The films", "", _FILMS]


def rate_image(found: Findings) -> str:
    """Name the picture of the rate curve."""
    return f"quality_{slug(found)}_rate.png"


def minutes_image(found: Findings) -> str:
    """Name the picture of the curve against minutes."""
    return f"quality_{slug(found)}_minutes.png"


def slug(found: Findings) -> str:
    """Return the prefix of a film's pictures' names."""
    return found.film.title.split(",")[0].lower().replace(" ", "_")


def _which(every: int) -> str:
    return "every frame" if every == 1 else f"one frame in {every}"


def _size(one: Figures) -> str:
    if one.decoder_bytes is None:
        return f"{one.bytes_a_frame:.1f}"
    return f"{one.bytes_a_frame:.0f}"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f}"


def _number(measured: Mapping[str, object], measure: str, which: str, places: int) -> str:
    values = measured[measure]
    value = values.get(which) if isinstance(values, dict) else None
    return "-" if value is None else f"{value:.{places}f}"


def _float(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
