"""`refilm reconstructions`: reconstructions that outlive calls."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time

from refilm._client import Client
from refilm._film_values import ReconstructionJob
from refilm.cli._interrupt import with_client
from refilm.cli._report import clock
from refilm.cli._show import json_line, moment, table

_SECONDS_BETWEEN_LINES = 5.0


def show_all(options: argparse.Namespace) -> int:
    """Lists the reconstructions of one film, or of all."""

    def show(client: Client) -> None:
        jobs = client.reconstructions(options.film)
        if options.json:
            for job in jobs:
                json_line(_as_json(job))
            return
        head = ("RECONSTRUCTION", "STATE", "DONE", "MODEL", "CREATED")
        table(head, [_row(job) for job in jobs], right=(2,))

    with_client(options.address, show)
    return 0


def _row(job: ReconstructionJob) -> tuple[str, ...]:
    done = "?" if job.fraction is None else f"{job.fraction:.0%}"
    model = f"{job.model.name} v{job.model.version}"
    return job.name, job.state, done, model, moment(job.created)


def start(options: argparse.Namespace) -> int:
    """Starts a reconstruction; with --watch, waits for it as well."""

    def begin(client: Client) -> ReconstructionJob:
        job = client.start_reconstruction(
            options.film,
            model=options.model,
            version=options.version,
            layout=options.layout,
            size=options.size,
            sound=not options.no_sound,
            quality=options.quality,
        )
        if not options.watch:
            return job
        # The name first: if interrupted from here on, the service continues the job.
        if not options.json:
            print(job.name, file=sys.stderr, flush=True)
        return _wait(client, job, options)

    return _told(with_client(options.address, begin), options)


def show(options: argparse.Namespace) -> int:
    """Shows one reconstruction."""
    return _told(with_client(options.address, lambda c: c.reconstruction(options.name)), options)


def cancel(options: argparse.Namespace) -> int:
    """Cancels a reconstruction."""
    job = with_client(options.address, lambda c: c.cancel_reconstruction(options.name))
    _tell(job, options)
    return 0


def watch(options: argparse.Namespace) -> int:
    """Waits for a reconstruction."""
    job = with_client(options.address, lambda client: _wait(client, options.name, options))
    return _told(job, options)


def _wait(
    client: Client, job: str | ReconstructionJob, options: argparse.Namespace
) -> ReconstructionJob:
    if options.json:
        return client.wait_for_reconstruction(
            job, progress=lambda now: None if now.done else json_line(_as_json(now))
        )
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
        except ImportError:
            pass
        else:
            words = TextColumn("{task.description}", markup=False)
            console = Console(stderr=True)
            with Progress(BarColumn(bar_width=14), words, console=console, transient=True) as bar:
                task = bar.add_task("asking", total=None)

                def move(now: ReconstructionJob) -> None:
                    total = None if now.fraction is None else 1.0
                    done = now.fraction or 0.0
                    bar.update(task, total=total, completed=done, description=_words(now))

                return client.wait_for_reconstruction(job, progress=move)
    next_line = 0.0

    def say(now: ReconstructionJob) -> None:
        nonlocal next_line
        if not now.done and time.monotonic() >= next_line:
            next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            print(_words(now), file=sys.stderr, flush=True)

    return client.wait_for_reconstruction(job, progress=say)


def _words(job: ReconstructionJob) -> str:
    total = f" of about {job.estimated_frames}" if job.estimated_frames else ""
    return f"{job.state}: {job.frames}{total} frames, at {clock(job.position)}"


def _told(job: ReconstructionJob, options: argparse.Namespace) -> int:
    _tell(job, options)
    return 1 if job.state in ("failed", "cancelled") else 0


def _tell(job: ReconstructionJob, options: argparse.Namespace) -> None:
    if options.json:
        json_line(_as_json(job))
        return
    print(f"{job.name}\n  {_words(job)}; {job.model.name} v{job.model.version}")
    if job.fault is not None:
        print(f"  {job.fault.message} ({job.fault.reason})")
    if job.state == "succeeded":
        print(f"  {job.rendition}")


def _as_json(job: ReconstructionJob) -> dict[str, object]:
    return dataclasses.asdict(job) | {"fraction": job.fraction}
