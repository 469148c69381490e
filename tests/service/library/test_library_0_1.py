"""What version 0.1 stored is read by this one, which stores the same values as the same bytes."""

import hashlib
import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from film.facts import FilmFacts, SoundAction, SoundTrack
from film.output import Layout, OutputSettings, Quality, Size
from film.segments import ReadingPoint, ResumePoint
from service.errors import NotFoundError
from service.library import layout
from service.library.deletion import Deletion
from service.library.films import Film, Films
from service.library.job_records import Job, JobEnd, JobName, Jobs
from service.library.latents import Latents
from service.library.latents_manifest import LatentsManifest, LatentsPart
from service.library.leases import Leases, LeaseState
from service.library.records import StoredModel
from service.library.renditions import (
    RenditionManifest,
    Renditions,
    RenditionSegment,
    rendition_id,
)
from service.library.segment_records import (
    InitSegment,
    RecordsReader,
    SegmentFault,
    SegmentRecord,
    longest_chain,
    newest_record,
    resume_digest,
)
from service.library.upload import PART_BYTES
from service.library.upload_records import UploadEnd, UploadRecord, UploadSettings
from service.library.uploads import Uploads
from service.storage.folder import FolderStore
from tests.support.library_0_1 import (
    DELETING_REQUEST,
    HALF_ATTEMPT,
    MODEL_DIGEST,
    SIDE_BY_SIDE,
    STANDARD,
    unpack,
)
from tests.support.probing import probe_here

BUNNY = StoredModel("bunny", 1, MODEL_DIGEST, "fidelity")
WHOLE_UID = "aeab3e25-e41f-48f1-9a50-72d2f394df52"


@pytest.fixture
def library(tmp_path: Path) -> FolderStore:
    return unpack(tmp_path / "library")


@pytest.fixture
def empty(tmp_path: Path) -> FolderStore:
    store = FolderStore(tmp_path / "empty")
    store.prepare()
    return store


def at(seconds: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-29T05:26:{seconds}+00:00")


# What it wrote.


def test_its_films_are_there(library: FolderStore) -> None:
    films = Films(library)
    found = {film.id: film for film in films.list()}
    assert sorted(found) == ["damaged", "half", "whole"]
    assert found["whole"] == Film(
        "whole",
        WHOLE_UID,
        "A whole film",
        29050,
        "sha256:e12f9cd8fc1a627294ce6d0608a150057fc8943b17d72f141d835dc776feeae7",
        at("32.758519"),
        FilmFacts(
            container="mp4",
            video_codec="h264",
            width=64,
            height=36,
            sample_aspect_ratio=Fraction(1),
            rotation=0,
            average_frame_rate=Fraction(2),
            time_base=Fraction(1, 16384),
            duration=Fraction(3),
            estimated_frames=6,
            interlaced=False,
            transfer="unknown",
            tone_mapped=False,
            bit_depth=8,
            sound_tracks=(SoundTrack("aac", 22050, 1, "", SoundAction.COPY),),
        ),
    )
    for film in found.values():
        data = films.source(film).read(0, film.size)
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == film.digest
        assert film.encode() == library.get(layout.film_facts(film.id))


def test_its_latents_are_there(library: FolderStore) -> None:
    latents = Latents(library)
    assert list(latents.catalog(MODEL_DIGEST)) == ["whole"]
    (manifest,) = latents.list("whole")
    assert (manifest.film_uid, manifest.model) == (WHOLE_UID, BUNNY)
    assert [part.rows for part in manifest.parts] == [4, 2]
    assert (manifest.rows, manifest.duration, manifest.index_rows) == (6, Fraction(3), 4)
    assert manifest.created == at("34.516140")
    chunks = list(latents.parts(manifest, embeddings=True))
    assert np.concatenate([chunk.pts for chunk in chunks]).tolist() == list(range(0, 49152, 8192))
    for chunk in chunks:
        assert chunk.embeddings is not None
        lengths = np.linalg.norm(chunk.embeddings.astype(np.float64), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)
        assert chunk.latents.shape == (len(chunk.pts), 200) and chunk.latents.std() > 0.1
    index = latents.index_rows(manifest)
    assert index.rows.tolist() == [0, 2, 4, 5]
    assert index.seconds.tolist() == [0, 1, 2, 2.5]
    key = f"{layout.latents_folder('whole', MODEL_DIGEST)}manifest.json"
    assert manifest.encode() == library.get(key)


def test_its_rendition_is_there(library: FolderStore) -> None:
    renditions = Renditions(library)
    (manifest,) = renditions.list("whole")
    assert manifest.rendition == STANDARD == rendition_id(MODEL_DIGEST, OutputSettings())
    assert (manifest.film_uid, manifest.model) == (WHOLE_UID, BUNNY)
    assert manifest.settings == OutputSettings()
    assert (manifest.frames, manifest.duration) == (6, Fraction(3))
    assert [segment.frames for segment in manifest.segments] == [4, 2]
    data = b"".join(renditions.bytes(manifest))
    assert len(data) == renditions.size(manifest) and data[4:8] == b"ftyp"
    key = f"{layout.rendition_folder('whole', STANDARD)}manifest.json"
    assert manifest.encode() == library.get(key)


@pytest.mark.parametrize(
    ("film", "rendition", "segments"),
    [
        ("whole", STANDARD, 2),
        ("whole", SIDE_BY_SIDE, 1),
        ("damaged", STANDARD, 2),
        ("half", STANDARD, 2),
    ],
)
def test_its_segments_are_there(
    library: FolderStore, film: str, rendition: str, segments: int
) -> None:
    records = RecordsReader(library, film, rendition).look()
    chain = longest_chain(records)
    assert len(chain) == len(records) == segments
    assert newest_record(library, film, rendition) == chain[-1]
    for before, record in zip([None, *chain], chain, strict=False):
        assert record.begins == ("" if before is None else resume_digest(before.resume))
        assert hashlib.sha256(library.get(record.init.key)).hexdigest() == record.init.digest
        assert hashlib.sha256(library.get(record.segment.key)).hexdigest() == record.segment.digest
        assert (record.latents is None) == (rendition == SIDE_BY_SIDE)
        key = record.segment.key.removesuffix(".m4s") + ".json"
        assert record.encode() == library.get(key)


def test_its_segments_say_how_to_go_on(library: FolderStore) -> None:
    half = longest_chain(RecordsReader(library, "half", STANDARD).look())[-1]
    assert half.attempt == HALF_ATTEMPT
    assert (half.resume.frames, half.resume.position) == (24, 12)
    assert half.resume.reading is not None
    assert half.resume.reading.state["decoder"] == {"pictures": 25, "bytes": 86400}
    assert half.fault is None and not half.is_last
    damaged = longest_chain(RecordsReader(library, "damaged", STANDARD).look())[-1]
    assert damaged.is_last and damaged.fault is not None
    assert damaged.fault.reason == "FILM_TRUNCATED"
    assert damaged.fault.message.startswith("the film breaks off after 5 pictures")


def test_its_lease_is_followed_by_the_next(library: FolderStore) -> None:
    leases = Leases(library, owner="this", seconds=8)
    newest = leases.newest("half", STANDARD)
    assert newest == LeaseState(
        1, "5ba41b6f7c5e4e3e9c74747cfffa5b5b", 1, "2026-11-29T05:26:47.131430+00:00", released=False
    )
    lease = leases.take("half", STANDARD, newest)
    assert lease is not None and lease.attempt.startswith("000002-")
    returned = leases.newest("whole", STANDARD)
    assert returned is not None and returned.released


def test_its_jobs_are_there(library: FolderStore, empty: FolderStore) -> None:
    jobs, again = Jobs(library), Jobs(empty)
    assert sorted(jobs.pending()) == [("half", "3340416fdf654ec5"), ("whole", "7aac23f124ad061a")]
    ends: dict[JobName, str] = {}
    for film in ("damaged", "half", "whole"):
        for job in jobs.list(film):
            assert job.model == BUNNY
            assert again.create(job) == job
            end = jobs.end_of(job.name)
            if end is not None:
                ends[job.name] = end.state
                assert again.end(job.name, end) == end
    assert sorted(ends.values()) == ["cancelled", "failed", "succeeded"]
    waiting = jobs.find(JobName("whole", "7aac23f124ad061a"))
    assert waiting is not None and waiting.film_uid == WHOLE_UID
    assert waiting.settings == OutputSettings(Layout.SIDE_BY_SIDE, Size.SOURCE, True, Quality.DRAFT)
    assert waiting.created == at("35.074311")
    failed = jobs.end_of(JobName("damaged", "cb6b9a10dd1eacd3"))
    assert failed is not None
    assert (failed.time, failed.reason) == (at("35.011623"), "FILM_TRUNCATED")
    for info in empty.list(""):
        assert empty.get(info.key) == library.get(info.key), info.key


def test_its_upload_goes_on_where_it_was_cut(library: FolderStore, empty: FolderStore) -> None:
    films = Films(library)
    uploads = Uploads(library, films, film_bytes=2**30, probe=probe_here)
    begun = library.get(layout.film_source("whole"))
    whole = begun + (2 * PART_BYTES).to_bytes(4, "big") + b"free" + bytes(2 * PART_BYTES - 8)
    settings = UploadSettings("half-sent", "coming", "On its way", len(whole))
    assert uploads.progress("half-sent").committed == PART_BYTES
    record = UploadRecord.find(library, "half-sent")
    assert record is not None
    assert record.encode() == library.get(layout.upload_record("half-sent"))
    upload = uploads.open(settings, PART_BYTES)
    upload.write(whole[PART_BYTES:])
    film = upload.finish()
    assert (film.id, film.uid, film.title) == ("coming", record.uid, "On its way")
    assert film.digest == f"sha256:{hashlib.sha256(whole).hexdigest()}"


def test_its_finished_upload_is_a_film(library: FolderStore, empty: FolderStore) -> None:
    uploads = Uploads(library, Films(library), film_bytes=2**30, probe=probe_here)
    progress = uploads.progress("whole-upload")
    assert progress.committed == 29050
    assert progress.film is not None and progress.film.uid == WHOLE_UID
    record = UploadRecord.find(library, "whole-upload")
    assert record is not None
    end = UploadEnd.find(library, record)
    assert end is not None and end.film == progress.film
    assert end.create(empty, "whole-upload")
    key = layout.upload_end("whole-upload")
    assert empty.get(key) == library.get(key)


def test_its_deletion_is_known(library: FolderStore, empty: FolderStore) -> None:
    deletion = Deletion(library, Films(library))
    deletion.delete("gone", DELETING_REQUEST)
    with pytest.raises(NotFoundError):
        deletion.delete("gone", "another")
    gone = json.loads(library.get(layout.deleted("gone")))
    film = Films(library).get("whole")
    Films(empty).add(Film("gone", gone["uid"], "", 1, film.digest, film.created, film.facts))
    Deletion(empty, Films(empty)).delete("gone", DELETING_REQUEST)
    note = empty.get(layout.deleted("gone"))
    at_that_time = note.replace(json.loads(note)["time"].encode(), gone["time"].encode())
    assert at_that_time == library.get(layout.deleted("gone"))


def test_a_claim_is_written_alike(library: FolderStore, empty: FolderStore) -> None:
    record = UploadRecord.find(library, "whole-upload")
    assert record is not None
    uploads = Uploads(empty, Films(empty), film_bytes=2**30, probe=probe_here)
    uploads.open(UploadSettings("whole-upload", "whole", "A whole film"))
    key = layout.film_claim("whole")
    uid = json.loads(empty.get(key))["uid"]
    assert empty.get(key).replace(uid.encode(), WHOLE_UID.encode()) == library.get(key)


# Values that the library above does not have, and the bytes that version 0.1 stored for them.

MODEL = StoredModel("café", 7, f"sha256:{'a' * 64}", "broad2016")
WHEN = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
RENDITION = f"{'a' * 64}-0123456789abcdef"
FOLDER = f"films/film/renditions/{RENDITION}/000002-ab"
SEGMENT = RenditionSegment(f"{FOLDER}/000003.m4s", 12, 5, -7, "b" * 64)
PART = LatentsPart(
    f"films/film/latents/{'a' * 64}/000002-ab/000003.npy", 5, -7, 9, "1", "2", "3", "4"
)

FILM = Film(
    "film-1",
    "uid",
    'Ünïcode ☂ "title"',
    2**40,
    f"sha256:{'c' * 64}",
    datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    FilmFacts(
        container="matroska",
        video_codec="vp9",
        width=720,
        height=576,
        sample_aspect_ratio=Fraction(16, 15),
        rotation=90,
        average_frame_rate=None,
        time_base=Fraction(1001, 24000),
        duration=None,
        estimated_frames=None,
        interlaced=True,
        transfer="pq",
        tone_mapped=True,
        bit_depth=10,
        sound_tracks=(
            SoundTrack("mp2", 48000, 2, "fre", SoundAction.TRANSCODE),
            SoundTrack("opus", 44100, 6, "", SoundAction.COPY),
        ),
    ),
)
FILM_BYTES = (
    b'{"version": 1, "id": "film-1", "uid": "uid", '
    rb'"title": "\u00dcn\u00efcode \u2602 \"title\"", "size": 1099511627776, "digest": "sha256:'
    + b"c"
    * 64
    + b'", "created": "2026-02-03T04:05:06.000007+00:00", "facts": {"container": "matroska", '
    b'"video_codec": "vp9", "width": 720, "height": 576, "sample_aspect_ratio": "16/15", '
    b'"rotation": 90, "average_frame_rate": null, "time_base": "1001/24000", "duration": null, '
    b'"estimated_frames": null, "interlaced": true, "transfer": "pq", "tone_mapped": true, '
    b'"bit_depth": 10, "sound_tracks": [{"codec": "mp2", "sample_rate": 48000, "channels": 2, '
    b'"language": "fre", "action": "transcode"}, {"codec": "opus", "sample_rate": 44100, '
    b'"channels": 6, "language": "", "action": "copy"}]}}'
)
MODEL_BYTES = (
    rb'{"name": "caf\u00e9", "version": 7, "digest": "sha256:' + b"a" * 64 + b'", '
    b'"recipe": "broad2016"}'
)
SEGMENT_BYTES = b'"size": 12, "frames": 5, "first_pts": -7, "digest": "' + b"b" * 64 + b'"}'
ROWS_BYTES = (
    b'"rows": 5, "first_pts": -7, "last_pts": 9, "digest": "1", "pts_digest": "2", '
    b'"embeddings_digest": "3", "detail_digest": "4"}'
)

LATENTS = LatentsManifest(
    "film", "uid", MODEL, Fraction(1, 90000), -7, 50, 5, (PART,), WHEN, index_rows=3
)
LATENTS_BYTES = (
    b'{"version": 1, "film": "film", "film_uid": "uid", "model": '
    + MODEL_BYTES
    + b', "time_base": "1/90000", "origin_pts": -7, "end_pts": 50, "rows": 5, "parts": '
    b'[{"key": "000002-ab/000003.npy", '
    + ROWS_BYTES
    + b'], "created": "2026-02-03T04:05:06+00:00", "index_rows": 3}'
)

MANIFEST = RenditionManifest(
    "film",
    "uid",
    RENDITION,
    MODEL,
    OutputSettings(Layout.SIDE_BY_SIDE, Size.SOURCE, False, Quality.HIGH),
    Fraction(1, 90000),
    5,
    Fraction(1001, 5),
    ("Sound was left out: ☂.",),
    f"{FOLDER}/init.mp4",
    9,
    (SEGMENT,),
    WHEN,
)
MANIFEST_BYTES = (
    b'{"version": 1, "film": "film", "film_uid": "uid", "rendition": "'
    + RENDITION.encode()
    + b'", "model": '
    + MODEL_BYTES
    + b', "settings": {"layout": "side_by_side", "size": "source", "sound": false, '
    b'"quality": "high"}, "time_base": "1/90000", "frames": 5, "duration": "1001/5", '
    rb'"warnings": ["Sound was left out: \u2602."], "init_key": "000002-ab/init.mp4", '
    b'"init_size": 9, "segments": [{"key": "000002-ab/000003.m4s", '
    + SEGMENT_BYTES
    + b'], "created": "2026-02-03T04:05:06+00:00"}'
)

RECORD = SegmentRecord(
    number=3,
    segment=SEGMENT,
    init=InitSegment(f"{FOLDER}/init.mp4", 9, "d" * 64),
    latents=PART,
    begins="e" * 64,
    resume=ResumePoint(
        segments=3,
        frames=15,
        position=Fraction(1001, 1000),
        warnings=("One.", "Two: ☂."),
        reading=ReadingPoint(3, 1000, {"check": 5, "last": None, "deep": [{"rate": 0.5}]}),
        writing={"alignment": {"origin": "1/2"}, "notes": []},
    ),
    fault=SegmentFault("FILM_DAMAGED", "It is damaged: ☂."),
)
RECORD_BYTES = (
    f'{{"version": 1, "number": 3, "segment": {{"key": "{FOLDER}/000003.m4s", '.encode()
    + SEGMENT_BYTES
    + f', "init": ["{FOLDER}/init.mp4", 9, "{"d" * 64}"], "latents": '.encode()
    + f'{{"key": "{PART.key}", '.encode()
    + ROWS_BYTES
    + f', "begins": "{"e" * 64}", "resume": '.encode()
    + b'{"format": 1, "segments": 3, "frames": 15, "position": "1001/1000", '
    rb'"warnings": ["One.", "Two: \u2602."], "reading": {"finished": 3, "pts": 1000, '
    b'"state": {"check": 5, "last": null, "deep": [{"rate": 0.5}]}}, '
    b'"writing": {"alignment": {"origin": "1/2"}, "notes": []}}, '
    rb'"fault": ["FILM_DAMAGED", "It is damaged: \u2602."]}'
)


def test_a_film_is_stored_as_before() -> None:
    assert FILM.encode() == FILM_BYTES
    assert Film.decode(FILM_BYTES, "film-1") == FILM


def test_a_manifest_of_latents_is_stored_as_before() -> None:
    assert LATENTS.encode() == LATENTS_BYTES
    assert LatentsManifest.decode(LATENTS_BYTES, "film", MODEL.digest) == LATENTS


def test_a_manifest_of_a_rendition_is_stored_as_before() -> None:
    assert MANIFEST.encode() == MANIFEST_BYTES
    assert RenditionManifest.decode(MANIFEST_BYTES, "film", RENDITION) == MANIFEST


def test_a_record_of_a_segment_is_stored_as_before() -> None:
    assert RECORD.encode() == RECORD_BYTES
    assert SegmentRecord.decode(RECORD_BYTES) == RECORD
    assert resume_digest(RECORD.resume) == (
        "29d314c48d834498c0bd8c8945f66cf5a02c002603aa37686c6b7ced2da62d09"
    )


def test_a_job_is_stored_as_before(empty: FolderStore) -> None:
    job = Job("film", "uid", "id", MODEL, MANIFEST.settings, "f" * 64, WHEN)
    Jobs(empty).create(job)
    assert empty.get("films/film/reconstructions/id/job.json") == (
        b'{"version": 1, "film_uid": "uid", "model": '
        + MODEL_BYTES
        + b', "settings": {"layout": "side_by_side", "size": "source", "sound": false, '
        b'"quality": "high"}, "request": "'
        + b"f" * 64
        + b'", "created": "2026-02-03T04:05:06+00:00"}'
    )
    Jobs(empty).end(job.name, JobEnd("failed", WHEN, "FILM_DAMAGED", "It is: ☂."))
    assert empty.get("films/film/reconstructions/id/ended.json") == (
        b'{"version": 1, "state": "failed", "time": "2026-02-03T04:05:06+00:00", '
        rb'"reason": "FILM_DAMAGED", "message": "It is: \u2602."}'
    )


def test_an_upload_by_url_is_stored_as_before(empty: FolderStore) -> None:
    record = UploadRecord(
        "~.name",
        "uid",
        "film",
        by_url=True,
        settings=UploadSettings(".name", "film", "☂", 2**40, f"sha256:{'c' * 64}"),
    )
    data = (
        b'{"version": 1, "uid": "uid", "film": "film", "by_url": true, "settings": '
        rb'{"upload_id": ".name", "film_id": "film", "title": "\u2602", "size": 1099511627776, '
        b'"digest": "sha256:' + b"c" * 64 + b'"}}'
    )
    assert record.encode() == data
    empty.put(layout.upload_record("~.name"), data)
    assert UploadRecord.find(empty, "~.name") == record


def test_an_upload_that_was_dropped_is_stored_as_before(empty: FolderStore) -> None:
    assert UploadEnd("uid", None, ()).create(empty, "name")
    data = b'{"version": 1, "uid": "uid", "film": null, "parts": []}'
    assert empty.get(layout.upload_end("name")) == data


def test_a_lease_is_stored_as_before(empty: FolderStore) -> None:
    lease = Leases(empty, owner="me", seconds=8).take("film", RENDITION, None)
    assert lease is not None
    key = f"{layout.rendition_folder('film', RENDITION)}lease/000001"

    def stored(beats: int, released: str) -> bytes:
        expires = json.loads(empty.get(key))["expires"]
        return (
            f'{{"number": 1, "owner": "me", "beats": {beats}, "expires": "{expires}", '
            f'"released": {released}}}'
        ).encode()

    assert empty.get(key) == stored(0, "false")
    assert lease.renew()
    assert empty.get(key) == stored(1, "false")
    lease.release()
    assert empty.get(key) == stored(2, "true")
