"""Every benchmark runs, and its table is whole; never how fast anything is."""

import math
from functools import partial
from pathlib import Path

import pytest

from benchmarks import (
    bench_encode,
    bench_frame_store,
    bench_library,
    bench_memory,
    bench_reconstruct,
    bench_search_scaling,
)
from benchmarks.environment import Environment
from benchmarks.packets import copy_film
from benchmarks.report import Machine, Report, Row, Table, write
from benchmarks.rounds import Ratio, interleave, ratio
from tests.film.clips import Track, make_clip
from tests.support.reconstruct import read_film
from tests.support.service_process import ServiceProcess

MACHINE = Machine(2, "Some Processor", 0.25, "abc1234", "2026-01-01")


@pytest.fixture
def environment(service: ServiceProcess, model_repository: Path, tmp_path: Path) -> Environment:
    film = make_clip(tmp_path / "film.mp4", size=(160, 90), frames=60, sound=[Track()]).path
    work = tmp_path / "work"
    work.mkdir()
    return Environment(service, model_repository, film, work)


def names(table: Table) -> list[str]:
    return [row.name for row in table.rows]


def check_page(report: Report, folder: Path) -> None:
    """Every row of every table is on the page, with as many cells as there are titles."""
    for row in (row for table in report.tables for row in table.rows):
        assert math.isfinite(row.ratio.median) and row.ratio.median > 0
        assert row.ratio.lowest <= row.ratio.median <= row.ratio.highest

    lines = write(report, MACHINE, folder).read_text().splitlines()

    assert str(MACHINE) in lines
    assert f"Reproduce it with `python -m benchmarks {report.name}`." in lines
    for table in report.tables:
        start = lines.index(f"## {table.title}") + 2
        block = lines[start : start + 2 + len(table.rows)]
        assert len({line.count("|") for line in block}) == 1
        assert [line.split("|")[1].strip() for line in block[2:]] == names(table)


def test_encode(environment: Environment, tmp_path: Path) -> None:
    report = bench_encode.run(environment, bench_encode.Plan(frames=4, rounds=1))

    check_page(report, tmp_path)
    encoding, decoding = report.tables
    assert len(encoding.rows) == len(decoding.rows) == 8
    for table in report.tables:
        assert table.rows[0].ratio == Ratio(1, 1, 1)


def test_reconstruct(environment: Environment, tmp_path: Path) -> None:
    plan = bench_reconstruct.Plan(
        rounds=1,
        settings=("default", "without sound"),
        settings_seconds=1,
        upload_pause=0.01,
    )

    report = bench_reconstruct.run(environment, plan)

    check_page(report, tmp_path)
    times, settings, first_pictures = report.tables
    assert times.title == "Stages, over 60 frames"
    assert times.rows[0].ratio == Ratio(1, 1, 1)
    alone = [row.ratio.median for row in times.rows[1:4]]
    assert times.rows[4].ratio.median == pytest.approx(sum(alone))
    assert times.rows[5].ratio.median == max(alone)
    assert names(settings) == ["default", "without sound"]
    assert all(row.ratio.highest <= 1 for row in first_pictures.rows)


def test_memory(environment: Environment, tmp_path: Path) -> None:
    report = bench_memory.run(environment, bench_memory.Plan(times=2, rounds=1))

    check_page(report, tmp_path)
    (table,) = report.tables
    assert names(table) == list(bench_memory.SIDES)
    assert all(float(figure) > 10 for row in table.rows for figure in row.figures[:2])


def test_frame_store(environment: Environment, tmp_path: Path) -> None:
    report = bench_frame_store.run(environment, bench_frame_store.Plan(frames=16, rounds=1))

    check_page(report, tmp_path)
    sizes = report.tables[0]
    assert sizes.rows[2].figures == ("110,600",), "the raw frame's bytes and its share of a header"


def test_library(environment: Environment, tmp_path: Path) -> None:
    plan = bench_library.Plan(
        few_films=2, films=5, small_mebibytes=1, large_mebibytes=65, with_s3=False
    )

    report = bench_library.run(environment, plan)

    check_page(report, tmp_path)
    assert [names(table) for table in report.tables] == [["a folder"], ["a folder"]]
    assert all(float(row.figures[1]) > 10 for table in report.tables for row in table.rows)


def test_search_scaling(environment: Environment, tmp_path: Path) -> None:
    plan = bench_search_scaling.Plan(
        films=(1, 2),
        queries=8,
        stored_films=2,
        stored_seconds=8,
        stored_queries=2,
        with_s3=False,
    )

    report = bench_search_scaling.run(environment, plan)

    check_page(report, tmp_path)
    index, reading = report.tables
    assert names(index) == ["1 film", "2 films"]
    assert [row.figures[0] for row in index.rows] == ["7,200", "14,400"]
    assert all(row.figures[3] == "1.000" for row in index.rows), "so few are searched exactly"
    assert names(reading) == [bench_search_scaling.FOLDER]


def test_a_busy_machine_is_named(tmp_path: Path) -> None:
    row = Row("a", Ratio(1, 1, 1), ("1",))
    report = Report("some", "Some", "Why?", (Table("A", "ratio", ("s",), (row,)),))
    busy = Machine(2, "Some Processor", 1.5, "abc1234", "2026-01-01")

    idle_page = write(report, MACHINE, tmp_path).read_text()
    busy_page = write(report, busy, tmp_path).read_text()

    assert "load average 1.5" in busy_page and "was busy" in busy_page
    assert "was busy" not in idle_page


def test_rounds_are_compared_one_by_one() -> None:
    """A machine that is ten times slower in one round leaves the ratio alone."""
    assert ratio([2, 20, 4], [1, 10, 2]) == Ratio(2, 2, 2)


def test_variants_take_turns() -> None:
    calls: list[str] = []

    times = interleave({name: partial(calls.append, name) for name in "ab"}, rounds=2)

    assert "".join(calls) == "baabba", "one round to warm up, then forwards, then backwards"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_a_film_twice_is_twice_as_long(environment: Environment, tmp_path: Path) -> None:
    once = read_film(environment.film)
    length = max(once.sounds[0].times[-1] + 1, once.times[-1])

    twice = read_film(copy_film(environment.film, tmp_path / "twice.mp4", times=2))

    assert len(twice.times) == 120
    assert twice.times[:60] == once.times
    gaps = {round(float(b - a), 3) for a, b in zip(once.times, twice.times[60:], strict=True)}
    assert len(gaps) == 1 and float(once.times[-1]) < gaps.pop() <= float(length)
