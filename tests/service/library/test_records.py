"""Stored records that are not what they should be: each reader says so in its own way."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from film.output import OutputSettings
from film.segments import ResumePoint
from service.library import layout
from service.library.deletion import Deletion
from service.library.films import Film, Films
from service.library.job_records import Job, JobEnd, JobName, Jobs
from service.library.latents_manifest import LatentsManifest, LatentsPart
from service.library.leases import Leases
from service.library.records import StoredModel
from service.library.renditions import RenditionManifest, RenditionSegment
from service.library.segment_records import InitSegment, SegmentRecord
from service.library.upload_ends import UploadEnds
from service.library.upload_records import UploadEnd, UploadRecord, UploadSettings
from service.library.verified_reads import DamagedError
from service.storage.folder import FolderStore
from tests.support.library_films import synthetic_film
from tests.support.probing import probe_here

NOW = datetime.now(UTC)
MODEL = StoredModel("pca", 1, f"sha256:{'a' * 64}", "pca")
RENDITION = f"{'a' * 64}-0123456789abcdef"
FOLDER = f"films/film/renditions/{RENDITION}/attempt"
PART = LatentsPart(f"films/film/latents/{'a' * 64}/attempt/000001.npy", 2, 0, 1, *"abcd")
LATENTS = LatentsManifest("film", "uid", MODEL, Fraction(1, 24), 0, 2, 2, (PART,), NOW)
SEGMENT = RenditionSegment(f"{FOLDER}/000001.m4s", 1, 2, 0, "digest")
MANIFEST = RenditionManifest(
    "film",
    "uid",
    RENDITION,
    MODEL,
    OutputSettings(),
    Fraction(1, 24),
    2,
    Fraction(1, 12),
    (),
    f"{FOLDER}/init.mp4",
    3,
    (SEGMENT,),
    NOW,
)
RECORD = SegmentRecord(
    number=1,
    segment=SEGMENT,
    init=InitSegment(f"{FOLDER}/init.mp4", 3, "digest"),
    latents=PART,
    begins="",
    resume=ResumePoint(1, 2, Fraction(1, 12), (), None, {}),
    fault=None,
)
UPLOAD = UploadRecord("name", "uid", "film", False, UploadSettings("name", "film"))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "library")
    store.prepare()
    return store


def without(data: bytes, field: str) -> bytes:
    """Return JSON that lacks a field."""
    found = json.loads(data)
    del found[field]
    return json.dumps(found).encode()


def changed(data: bytes, **fields: Any) -> bytes:
    """Return JSON with some fields changed."""
    return json.dumps(json.loads(data) | fields).encode()


def broken(data: bytes, field: str) -> list[bytes]:
    """Return what the bytes of a record may have become."""
    return [
        b"",
        data[: len(data) // 2],
        b"\xff" + data[1:],
        b"[]",
        b"7",
        b"null",
        without(data, field),
        changed(data, **{field: {"what": "no"}}),
        changed(data, **{field: 7}),
    ]


READERS: list[tuple[str, bytes, str, Callable[[bytes], object]]] = [
    (
        "its facts",
        synthetic_film(1).encode(),
        "facts",
        lambda data: Film.decode(data, "film"),
    ),
    (
        "the list of its latents",
        LATENTS.encode(),
        "created",
        lambda data: LatentsManifest.decode(data, "film", MODEL.digest),
    ),
    (
        "the list of a rendition",
        MANIFEST.encode(),
        "segments",
        lambda data: RenditionManifest.decode(data, "film", RENDITION),
    ),
]


@pytest.mark.parametrize(("what", "data", "field", "read"), READERS)
def test_what_readers_go_by_is_damaged_where_it_cannot_be_read(
    what: str, data: bytes, field: str, read: Callable[[bytes], object]
) -> None:
    for wrong in broken(data, field):
        with pytest.raises(DamagedError, match=f"films/film is damaged: {what} cannot be read; "):
            read(wrong)
    with pytest.raises(DamagedError, match=f"{what} cannot be read by this version of the service"):
        read(changed(data, version=2))
    read(changed(data, added_later="skipped"))


def test_parts_that_do_not_add_up_are_damage() -> None:
    with pytest.raises(DamagedError, match="the list of its latents cannot be read"):
        LatentsManifest.decode(changed(LATENTS.encode(), rows=3), "film", MODEL.digest)
    with pytest.raises(ValueError, match="3 rows in 1 parts"):
        LatentsManifest("film", "uid", MODEL, Fraction(1, 24), 0, 2, 3, (PART,), NOW)


def test_a_key_of_another_folder_is_not_written() -> None:
    elsewhere = RenditionSegment("films/other/000001.m4s", 1, 2, 0, "digest")
    manifest = replace(MANIFEST, segments=(elsewhere,))
    with pytest.raises(ValueError, match="not a key in films/film"):
        manifest.encode()


def test_segments_that_cannot_be_read_are_skipped() -> None:
    data = RECORD.encode()
    assert SegmentRecord.decode(data) == RECORD
    for wrong in [
        *broken(data, "resume"),
        changed(data, version=2),
        changed(data, resume=RECORD.resume.to_json() | {"format": 2}),
    ]:
        assert SegmentRecord.decode(wrong) is None


def test_jobs_that_cannot_be_read_are_not_there(store: FolderStore) -> None:
    jobs, name = Jobs(store), JobName("film", "job")
    jobs.create(Job("film", "uid", "job", MODEL, OutputSettings(), "request", NOW))
    (key,) = [info.key for info in store.list("films/")]
    data = store.get(key)
    assert jobs.find(name) is not None
    for wrong in [*broken(data, "model"), changed(data, version=2)]:
        store.put(key, wrong)
        assert jobs.find(name) is None


def test_an_end_of_a_job_that_cannot_be_read_is_damage(store: FolderStore) -> None:
    jobs, name = Jobs(store), JobName("film", "job")
    jobs.end(name, JobEnd.now("cancelled"))
    (key,) = [info.key for info in store.list("films/")]
    data = store.get(key)
    for wrong in [*broken(data, "state"), changed(data, state="lost")]:
        store.put(key, wrong)
        with pytest.raises(
            DamagedError, match="films/film is damaged: the end of a reconstruction cannot be read"
        ):
            jobs.end_of(name)


def test_a_lease_that_cannot_be_read_is_damage(store: FolderStore) -> None:
    leases = Leases(store, owner="me", seconds=8)
    assert leases.take("film", RENDITION, None) is not None
    (key,) = [info.key for info in store.list("films/")]
    data = store.get(key)
    for wrong in broken(data, "owner"):
        store.put(key, wrong)
        with pytest.raises(
            DamagedError, match="films/film is damaged: the lease of a rendition cannot be read"
        ):
            leases.newest("film", RENDITION)


def test_an_upload_that_cannot_be_read_is_not_there(store: FolderStore) -> None:
    key = layout.upload_record("name")
    store.put(key, UPLOAD.encode())
    assert UploadRecord.find(store, "name") == UPLOAD
    for wrong in [*broken(UPLOAD.encode(), "uid"), changed(UPLOAD.encode(), version=2)]:
        store.put(key, wrong)
        assert UploadRecord.find(store, "name") is None


def test_an_end_of_an_upload_that_cannot_be_read_is_damage(store: FolderStore) -> None:
    end = UploadEnd("uid", synthetic_film(1), ("part",))
    assert end.create(store, "name")
    assert UploadEnd.find(store, UPLOAD) == end
    key = layout.upload_end("name")
    data = store.get(key)
    for wrong in [*broken(data, "film"), changed(data, film=7), changed(data, film="{}")]:
        store.put(key, wrong)
        with pytest.raises(DamagedError, match="the end of its upload cannot be read"):
            UploadEnd.find(store, UPLOAD)


def test_a_claim_that_cannot_be_read_is_nobodys(store: FolderStore) -> None:
    ends = UploadEnds(store, Films(store), probe_here)
    ends.claim(UPLOAD)
    key = layout.film_claim("film")
    data = store.get(key)
    assert ends.claimed_by("film") is not None
    for wrong in broken(data, "uid"):
        store.put(key, wrong)
        assert ends.claimed_by("film") is None


def test_a_note_of_a_deletion_that_cannot_be_read_answers_no_request(store: FolderStore) -> None:
    films = Films(store)
    film = synthetic_film(1)
    films.add(film)
    deletion = Deletion(store, films)
    deletion.delete(film.id, "request")
    deletion.delete(film.id, "request")
    key = layout.deleted(film.id)
    data = store.get(key)
    for wrong in broken(data, "request"):
        store.put(key, wrong)
        assert films.was_deleted(film.id)
        with pytest.raises(Exception, match="there is no film"):
            deletion.delete(film.id, "request")
