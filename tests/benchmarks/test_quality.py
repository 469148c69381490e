"""The quality report says what it should, from end to end, on two small films."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.quality import __main__ as command
from benchmarks.quality import collect
from tests.trainer.film_clips import clip_of_scenes
from trainer.__main__ import main as trainer

pytestmark = pytest.mark.process  # The report asks git for the revision.

Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of 52 s and 12 s, a run on the first under the name of a large model, a report."""
    folder = tmp_path_factory.mktemp("quality")
    clip_of_scenes(folder / "bunny.mp4", [40, 10, 2], rate=1)
    clip_of_scenes(folder / "sintel.mp4", [8, 4], rate=1)
    call(trainer, "prepare", folder / "bunny.mp4", "--out", folder / "data")
    run = folder / "runs" / "bunny_large"
    call(
        *(trainer, "train", "--recipe", "pca", "--fit", "all"),
        *("--data", folder / "data", "--run", run),
    )
    far = [*({"bases": number} for number in range(1, 4)), *({"step": 9 * i} for i in range(6))]
    curve = [{"seconds": 60 * i, **each, "psnr": 20 + i} for i, each in enumerate(far)]
    (run / "preview.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
    rows = [
        {"name": "groups", "what": "one basis or 16", "psnr": 31.5, "difference": 2.25},
        {"name": "finish", "what": "on 67", "psnr": 31, "difference": -0.2, "haarpsi": 0.88031},
    ]
    (folder / "ablations.json").write_text(json.dumps(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "CURVE_BITS", (2, 8))
        patch.setattr(collect, "CURVE_BYTES", (200, 800))
        report(folder)
    return folder


def report(folder: Path) -> None:
    call(
        *(command.main, "--bunny", folder / "bunny.mp4", "--sintel", folder / "sintel.mp4"),
        *("--runs", folder / "runs", "--work", folder / "work", "--out", folder / "docs"),
        *("--ablations", folder / "ablations.json", "--every", 3),
    )


def call(program: object, *arguments: object) -> None:
    assert callable(program)
    assert program([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def page(workshop: Path) -> str:
    return (workshop / "docs" / "quality.md").read_text()


def table(page: str, title: str) -> Rows:
    """Read the first table under a title: the cells of its rows, by model and bytes a frame."""
    part = page.partition(f"{title}\n")[2]
    found = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)
    assert found, f"there is no table under {title}"
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found[0].splitlines()]
    assert len({len(line) for line in lines}) == 1, "every row has a cell for each title"
    return {f"{line[0]} {line[1]}": line for line in lines[2:]}


MEMORY = "## Big Buck Bunny: the film's own memory"


def test_models_and_codecs_stand_in_one_table_at_equal_bytes(page: str) -> None:
    rows = table(page, MEMORY)
    for name in ("PCA-200", "DCT-200", "fidelity large"):
        for size in (800, 200):
            assert float(rows[f"{name} {size}"][3]) > 15
    assert float(rows["PCA-200 800"][3]) >= float(rows["PCA-200 200"][3])
    assert float(rows["PCA-200 800"][3]) > float(rows["DCT-200 800"][3])
    assert rows["fidelity large 200"][3:] == rows["PCA-200 200"][3:], "it is the same model"
    for name in ("x264 medium", "SVT-AV1 preset 6"):
        (row,) = (row for row in rows.values() if row[0] == name)
        assert float(row[1]) == pytest.approx(200, rel=0.02)
        assert row[2] == "-" and float(row[3]) > 15


def test_every_table_says_that_the_decoder_is_not_in_its_bytes(page: str) -> None:
    tables = re.split(r"\n(?=#)", page)
    told = [part for part in tables if "bytes a frame" in part and "\n|" in part]
    assert len(told) > 8
    for part in told:
        assert "decoder" in part.partition("\n|")[0] + part.rpartition("|\n")[2], part


def test_held_out_blocks_are_harder_than_fitted_ones(page: str) -> None:
    title = "**{} blocks**"
    fitted, held_out = (table(page, title.format(kind)) for kind in ("Fitted", "Held-out"))
    assert float(fitted["PCA-200 200"][3]) > float(held_out["PCA-200 200"][3]) + 5
    assert "## Sintel, first 3 minutes: blocks" not in page, "12 seconds hold no block out"


def test_the_decoder_is_counted_where_totals_are_compared(page: str, workshop: Path) -> None:
    decoder = (workshop / "runs" / "bunny_large" / "decoder.pt").stat().st_size
    own, feature = table(page, "## Big Buck Bunny: with the decoder counted").values()
    for row, frames in ((own, 52), (feature, 6000)):
        assert row[1].endswith(f"{frames:,} frames")
        assert float(row[2].replace(",", "")) == pytest.approx(200 + decoder / frames, abs=1)


def test_absent_runs_are_named(page: str) -> None:
    absent = re.findall(r"no such run: (.*)\.", page)
    assert absent == [
        "`bunny_small`, `bunny_perceptual`, `bunny_broad2016`, `bunny_general_small`, "
        "`bunny_general_large`",
        "`sintel_small`, `sintel_large`, `sintel_perceptual`, `sintel_broad2016`",
    ]


def test_curves_ablations_and_the_foreign_film_are_reported(page: str) -> None:
    minutes = table(page, "## Big Buck Bunny: PSNR against minutes of training")
    assert list(minutes.values()) == [
        ["fidelity large", "2.0", *(f"{m}.0: 2{m}.00" for m in (0, 2, 4, 6, 8))]
    ]
    rates = table(page, "## Big Buck Bunny: PSNR against bytes a frame")
    for few, many in (row[1:] for row in rates.values()):
        assert float(few) < float(many)
    assert "| groups | one basis or 16 | 31.50 | +2.25 |  |" in page
    assert "| finish | on 67 | 31.00 | -0.20 | 0.8803 |" in page
    foreign = table(page, "## Sintel, first 3 minutes, through the models of Big Buck Bunny")
    assert set(foreign) == {"PCA-200 200", "DCT-200 200", "fidelity large 200"}


def test_every_picture_of_the_page_is_there(page: str, workshop: Path) -> None:
    names = re.findall(r"!\[.*?\]\((images/.*?)\)", page)
    # For each film two sheets, one comparison and the rate curve; minutes for one.
    assert len(names) == len(set(names)) == 9
    for name in names:
        with Image.open(workshop / "docs" / name) as image:
            assert image.width > 500 and len(image.getcolors(1 << 24) or []) > 50


def test_a_second_report_measures_nothing_again(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workshop / "docs" / "quality.md").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "CURVE_BITS", (2, 8))
        patch.setattr(collect, "CURVE_BYTES", (200, 800))
        report(workshop)
    said = capsys.readouterr().err
    assert "wrote" in said and "measuring" not in said and "wanted" not in said
    after = (workshop / "docs" / "quality.md").read_text()
    assert after.splitlines()[3:] == before.splitlines()[3:]
