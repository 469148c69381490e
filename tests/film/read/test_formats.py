"""docs/formats.md is true: every row of its tables is made, read, and compared."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from film.errors import FilmError
from film.facts import FilmFacts, SoundAction
from film.read.film_reader import FilmReader
from tests.film.arriving import ArrivingFile, GivenUpError
from tests.film.clips import number_of
from tests.film.format_clips import LONGER, MAKERS

DOCUMENT = Path(__file__).parents[3] / "docs" / "formats.md"


def _tables() -> list[dict[str, dict[str, str]]]:
    """Parse the document's tables: rows by their first column, cells by their heading."""
    tables: list[dict[str, dict[str, str]]] = []
    heading: list[str] = []
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("|"):
            heading = []
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not heading:
            heading = cells
            tables.append({})
        elif set(cells[0]) != {"-"}:
            tables[-1][cells[0]] = dict(zip(heading, cells, strict=True))
    return tables


READ, AWKWARD, REFUSED = _tables()


def test_every_film_has_a_row_and_every_row_a_film() -> None:
    rows = [*READ, *AWKWARD, *REFUSED]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(MAKERS)


class Result:
    """What came out of reading a film to its end, or to its error."""

    def __init__(self, path: Path) -> None:
        self.facts: FilmFacts | None = None
        self.numbers: list[int] = []
        self.pts: list[int] = []
        self.warnings: list[str] = []
        self.error: FilmError | None = None
        try:
            with path.open("rb") as file, FilmReader(file) as reader:
                self.facts, self.warnings = reader.facts, reader.warnings
                for batch in reader.batches(16):
                    self.numbers += [number_of(frame) for frame in batch.frames]
                    self.pts += batch.pts.tolist()
        except FilmError as error:
            self.error = error


def _sound(facts: FilmFacts) -> str:
    words = {SoundAction.COPY: "copied", SoundAction.TRANSCODE: "as AAC"}
    return ", ".join(f"{t.codec} {words[t.action]}" for t in facts.sound_tracks) or "none"


@pytest.mark.parametrize("name", READ)
def test_containers_and_codecs(name: str, tmp_path: Path) -> None:
    row = READ[name]
    result = Result(MAKERS[name](tmp_path))
    assert result.error is None
    assert result.facts is not None
    assert result.facts.container == row["container"]
    assert result.facts.video_codec == row["picture codec"]
    assert _sound(result.facts) == row["sound"]
    assert result.numbers == list(range(int(row["pictures"])))
    assert np.all(np.diff(result.pts) > 0)


@pytest.mark.parametrize("name", READ)
def test_when_the_first_picture_comes(name: str, tmp_path: Path) -> None:
    data = LONGER[name](tmp_path, frames=300, size=(160, 90)).read_bytes()
    opened = threading.Event()

    file = ArrivingFile()

    def read() -> None:
        with suppress(GivenUpError), FilmReader(file):
            opened.set()

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(read)
        try:
            if READ[name]["begins"] == "at once":
                # No end in sight: whoever waits for it waits forever.
                file.arrive(data[: len(data) * 3 // 4])
                assert opened.wait(60)
            else:
                # What would be needed comes last.
                assert data.index(b"moov") > data.index(b"mdat")
                file.arrive(data)
                file.finish()
                assert opened.wait(60)
        finally:
            file.give_up()
        waiting.result(60)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_films(name: str, tmp_path: Path) -> None:
    row = AWKWARD[name]
    result = Result(MAKERS[name](tmp_path))
    assert result.error is None
    assert len(result.pts) == int(row["pictures"])
    assert np.all(np.diff(result.pts) > 0)
    assert bool(result.warnings) == ("with a warning" in row["what happens"] or name == "ts-cut")


@pytest.mark.parametrize("name", REFUSED)
def test_films_that_are_truncated_or_are_refused(name: str, tmp_path: Path) -> None:
    row = REFUSED[name]
    result = Result(MAKERS[name](tmp_path))
    assert result.error is not None
    assert result.error.reason == row["reason"]
    if row["pictures"] == "some":
        assert len(result.pts) > 0
    else:
        assert len(result.pts) == int(row["pictures"])
    assert "/" not in str(result.error).replace("ASF/WMV", "")
