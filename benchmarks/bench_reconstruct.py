"""Where does a reconstruction's time go?

Reading, inference and writing alone, one after the other, against a whole ReconstructVideo call;
the cost of output settings; and the latency of the first pictures.
"""

import io
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal, TypedDict

import psutil
import refilm

from benchmarks import stages
from benchmarks.environment import Environment
from benchmarks.packets import copy_film
from benchmarks.report import Report, Row, Table
from benchmarks.rounds import Ratio, Times, interleave, ratio

READ, INFER, WRITE = "reading alone", "inference alone", "writing alone"
SUM, WHOLE, SLOWEST = "the three, one after the other", "ReconstructVideo", "the slowest of them"
MEBIBYTE = 2**20


class _Settings(TypedDict, total=False):
    layout: Literal["side_by_side"]
    size: Literal["source"]
    sound: bool
    quality: Literal["draft", "high"]


DEFAULT = "default"
SETTINGS: dict[str, _Settings] = {
    DEFAULT: {},
    "without sound": {"sound": False},
    "draft quality": {"quality": "draft"},
    "high quality": {"quality": "high"},
    "side by side": {"layout": "side_by_side"},
    "the source's size": {"size": "source"},
    "side by side, the source's size": {"layout": "side_by_side", "size": "source"},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    settings: tuple[str, ...] = tuple(SETTINGS)
    settings_seconds: float = 15.0
    """Of the film, for the variants of settings."""
    upload_steps: int = 200
    """Chunks of the slow upload."""
    upload_pause: float = 0.05
    """Seconds between two chunks."""


def run(environment: Environment, plan: Plan | None = None) -> Report:
    """Measure all of it."""
    plan = plan or Plan()
    beginning = copy_film(
        environment.film, environment.folder / "short.mp4", seconds=plan.settings_seconds
    )
    tables = [_stages_table(environment, plan.rounds)]
    with refilm.Client(environment.service.address) as client:
        variants: dict[str, Callable[[], object]] = {
            name: partial(_call, client, beginning, SETTINGS[name]) for name in plan.settings
        }
        times = interleave(variants, plan.rounds)
        tables.append(_variants_table("Settings of the output", times, DEFAULT))
    tables.append(_first_bytes_table(environment, plan))
    return Report(
        name="reconstruct",
        title="Where a reconstruction's time goes",
        question=(
            "How long do the stages of a reconstruction take alone, how much does running them "
            "concurrently save, and what do settings cost? A film of 640 x 360 "
            f"with sound, the model `pca`; {plan.rounds} rounds."
        ),
        tables=tuple(tables),
    )


# Stages.


def _stages_table(environment: Environment, rounds: int) -> Table:
    """Time the stages and the whole call in turn; a stage gets the output of the one before."""
    seconds: Times = {name: [] for name in (READ, INFER, WRITE, WHOLE)}
    busy: Times = {name: [] for name in seconds}
    cpu = _CpuClock(environment)

    def timed(name: str, began: tuple[float, float], keep: bool) -> None:
        if keep:
            seconds[name].append(time.perf_counter() - began[0])
            busy[name].append(cpu.seconds() - began[1])

    def now() -> tuple[float, float]:
        return time.perf_counter(), cpu.seconds()

    frames = 0
    with (
        refilm.Client(environment.service.address) as client,
        stages.Engine(environment.service.triton_address) as engine,
    ):
        for number in range(rounds + 1):  # The first one warms up.
            with stages.opened(environment.film) as reader:
                began = now()
                batches = stages.read(reader)
                timed(READ, began, number > 0)
                began = now()
                decoded = engine.infer(batches)
                timed(INFER, began, number > 0)
                began = now()
                stages.write(reader, batches, decoded)
                timed(WRITE, began, number > 0)
                frames = sum(len(batch.pts) for batch in batches)
            del batches, decoded
            began = now()
            _call(client, environment.film, {})
            timed(WHOLE, began, number > 0)

    alone = [seconds[name] for name in (READ, INFER, WRITE)]
    slowest = max(alone, key=median)
    seconds |= {SUM: [sum(parts) for parts in zip(*alone, strict=True)], SLOWEST: slowest}
    rows = []
    for name in (WHOLE, READ, INFER, WRITE, SUM, SLOWEST):
        wall = median(seconds[name])
        cores = f"{median(busy[name]) / wall:.1f}" if name in busy else ""
        figures = (f"{wall:.2f}", f"{frames / wall:,.0f}", cores)
        rows.append(Row(name, ratio(seconds[name], seconds[WHOLE]), figures))
    return Table(
        title=f"Stages, over {frames} frames",
        ratio_title="time to ReconstructVideo's",
        figure_titles=("seconds", "frames a second", "cores busy"),
        rows=tuple(rows),
        note=(
            "“The three” above 1 is the time that overlapping saves; “the slowest” below 1 is what "
            "more cores could still save. Opening the film counts in ReconstructVideo only. "
            "Inference keeps as many batches in Triton as the service does. Cores busy: of this "
            "process, the service and its Triton together."
        ),
    )


class _CpuClock:
    """Processor time of this process, the service, films' processes, Triton and its stubs."""

    def __init__(self, environment: Environment) -> None:
        service = psutil.Process(environment.service.process.pid)
        self._others = [service, *environment.service.children()]

    def seconds(self) -> float:
        times = [process.cpu_times() for process in self._others]
        # Films' processes have ended, and count as those of who forked them.
        ended = sum(each.children_user + each.children_system for each in times)
        return time.process_time() + ended + sum(each.user + each.system for each in times)


# Variants.


def _call(client: refilm.Client, film: Path, settings: _Settings) -> None:
    client.reconstruct(film, io.BytesIO(), **settings)


def _variants_table(title: str, times: Times, baseline: str) -> Table:
    rows = [
        Row(name, ratio(seconds, times[baseline]), (f"{median(seconds):.2f}",))
        for name, seconds in times.items()
    ]
    return Table(title, f"time to “{baseline}”", ("seconds",), tuple(rows))


# First bytes.


def _first_bytes_table(environment: Environment, plan: Plan) -> Table:
    containers = {
        "MP4, index in front": ("front.mp4", True),
        "MP4, index at the end": ("end.mp4", False),
        "Matroska": ("film.mkv", False),
        "MPEG-TS": ("film.ts", False),
    }
    rows = []
    with refilm.Client(environment.service.address) as client:
        for name, (file, in_front) in containers.items():
            film = copy_film(environment.film, environment.folder / file, index_in_front=in_front)
            upload = _SlowUpload(film, plan.upload_steps, plan.upload_pause)
            _wait_for_pictures(client, upload)
            share = upload.sent / upload.size
            figures = (f"{upload.sent / MEBIBYTE:.2f}", f"{upload.size / MEBIBYTE:.2f}")
            rows.append(Row(name, Ratio(share, share, share), figures))
    return Table(
        title="First pictures, while the film is uploaded slowly",
        ratio_title="share of the film sent",
        figure_titles=("MiB sent", "MiB altogether"),
        rows=tuple(rows),
        note=(
            "How much of the film the caller had sent when the first fragment of the "
            f"reconstruction came back; {plan.upload_steps} parts, {plan.upload_pause * 1000:.0f} "
            "ms between two. An index at the end is read last."
        ),
    )


class _SlowUpload:
    """A film file that is read in chunks with pauses."""

    def __init__(self, film: Path, steps: int, pause: float) -> None:
        self._film = film.read_bytes()
        self.size = len(self._film)
        self._part = -(-self.size // steps)
        self._pause = pause
        self.sent = 0

    def read(self, _: int) -> bytes:
        time.sleep(self._pause)
        part = self._film[self.sent : self.sent + self._part]
        self.sent += len(part)
        return part


def _wait_for_pictures(client: refilm.Client, upload: _SlowUpload) -> None:
    output = b""
    with closing(client.reconstruct_stream(upload)) as events:
        for event in events:
            if isinstance(event, bytes):
                output += event
                if b"moof" in output:
                    return
    raise AssertionError("the reconstruction holds no fragment")
