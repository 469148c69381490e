"""Reconstructions that outlive calls: asked for once, ended once, and known until then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from film.output import OutputSettings
from service.library import job_records, layout
from service.library.job_records import Job, JobEnd, JobName, Jobs
from service.library.records import StoredModel
from service.library.renditions import rendition_id
from service.storage.folder import FolderStore

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL = StoredModel("pca", 1, f"sha256:{'a' * 64}", "pca")
JOB = Job("film", "uid", "job", MODEL, OutputSettings(), "request", NOW)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    return store


@pytest.fixture
def jobs(store: FolderStore) -> Jobs:
    return Jobs(store)


def test_one_that_is_created_is_found_and_has_not_ended(jobs: Jobs, store: FolderStore) -> None:
    assert jobs.find(JOB.name) is None
    assert jobs.create(JOB) == JOB
    assert jobs.find(JOB.name) == JOB
    assert JOB.name == JobName("film", "job")
    assert JOB.rendition == rendition_id(MODEL.digest, JOB.settings)
    assert jobs.end_of(JOB.name) is None
    assert list(jobs.pending()) == [JOB.name]
    assert [found.key for found in store.list("")] == [
        "films/film/reconstructions/job/job.json",
        "pending/film~job",
    ]


def test_a_name_is_given_once(jobs: Jobs) -> None:
    jobs.create(JOB)
    assert jobs.create(replace(JOB, request="another")) == JOB
    assert jobs.find(JOB.name) == JOB
    assert list(jobs.pending()) == [JOB.name]


def test_asking_again_for_one_that_has_ended_does_not_begin_it_again(jobs: Jobs) -> None:
    jobs.create(JOB)
    jobs.end(JOB.name, JobEnd.now("succeeded"))
    assert jobs.create(JOB) == JOB
    assert list(jobs.pending()) == []


def test_one_whose_record_cannot_be_read_is_the_one_that_was_asked_for(
    jobs: Jobs, store: FolderStore
) -> None:
    jobs.create(JOB)
    store.put("films/film/reconstructions/job/job.json", b"{}")
    again = replace(JOB, request="another")
    assert jobs.create(again) == again


def test_it_ends_once(jobs: Jobs) -> None:
    jobs.create(JOB)
    end = JobEnd("failed", NOW, "FILM_DAMAGED", "It is damaged.")
    assert jobs.end(JOB.name, end) == end
    assert list(jobs.pending()) == []
    assert jobs.end(JOB.name, JobEnd("cancelled", NOW)) == end
    assert jobs.end_of(JOB.name) == end


def test_an_end_now_has_no_reason_unless_it_is_reported() -> None:
    before = datetime.now(UTC)
    end = JobEnd.now("succeeded")
    assert (end.state, end.reason, end.message) == ("succeeded", "", "")
    assert before <= end.time <= datetime.now(UTC)
    end = JobEnd.now("failed", "FILM_DAMAGED", "It is damaged.")
    assert (end.reason, end.message) == ("FILM_DAMAGED", "It is damaged.")


def test_the_jobs_of_a_film_are_listed_by_id(jobs: Jobs, store: FolderStore) -> None:
    every = [replace(JOB, id=name) for name in ("c", "a", "b", "0")]
    for job in [*every, replace(JOB, film="other")]:
        jobs.create(job)
    assert [job.id for job in jobs.list("film")] == ["0", "a", "b", "c"]
    assert [job.id for job in jobs.list("film", after="a")] == ["b", "c"]
    assert list(jobs.list("unknown")) == []
    # Of one that only its end is left of, or that cannot be read, the others do not suffer.
    store.put("films/film/reconstructions/b/job.json", b"")
    jobs.end(JobName("film", "aa"), JobEnd.now("cancelled"))
    assert [job.id for job in jobs.list("film")] == ["0", "a", "c"]


def test_one_that_is_forgotten_leaves_nothing(jobs: Jobs, store: FolderStore) -> None:
    other = replace(JOB, id="other")
    for job in (JOB, other):
        jobs.create(job)
        jobs.end(job.name, JobEnd.now("succeeded"))
    store.put(layout.pending(*JOB.name), b"")
    jobs.forget(JOB.name)
    assert {found.key for found in store.list("")} == {
        f"films/film/reconstructions/other/{name}.json" for name in ("job", "ended")
    }


def test_the_note_of_one_that_has_ended_is_removed(jobs: Jobs, store: FolderStore) -> None:
    jobs.create(JOB)
    jobs.end(JOB.name, JobEnd.now("succeeded"))
    store.put(layout.pending(*JOB.name), b"")
    jobs.settle(JOB.name)
    assert list(jobs.pending()) == []


def test_the_note_of_one_that_was_never_kept_is_removed_once_it_is_old(
    jobs: Jobs, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = layout.pending(*JOB.name)
    store.put(note, b"")
    written = store.info(note).modified
    for age, left in ((timedelta(minutes=10, microseconds=-1), 1), (timedelta(minutes=10), 0)):
        monkeypatch.setattr(job_records, "datetime", clock_at(written + age))
        jobs.settle(JOB.name)
        assert len(list(jobs.pending())) == left
    jobs.settle(JOB.name)


def clock_at(moment: datetime) -> type[datetime]:
    """Return a `datetime` whose now is `moment`."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return moment.astimezone(tz) if tz else moment.replace(tzinfo=None)

    return Clock
