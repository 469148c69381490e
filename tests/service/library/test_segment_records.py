"""Whole segments of several attempts: those that continue one another form a chain."""

import hashlib
from dataclasses import replace
from fractions import Fraction

import pytest

from film.segments import ReadingPoint, ResumePoint
from service.library.segment_records import (
    RecordsReader,
    SegmentFault,
    SegmentRecord,
    SegmentRecords,
    longest_chain,
    newest_record,
    resume_digest,
)
from service.storage.objects import ObjectNotFoundError, ObjectStore

FILM, RENDITION = "film", "rendition"


def point(number: int, *, ended: bool = False, frames: int = 24) -> ResumePoint:
    return ResumePoint(
        segments=number,
        frames=frames * number,
        position=Fraction(number),
        warnings=(),
        reading=None if ended else ReadingPoint(number, number * 1000),
        writing={"fragments": number},
    )


class RenditionWriter:
    """Writes segments as one attempt would."""

    def __init__(self, store: ObjectStore, name: str, before: SegmentRecord | None = None) -> None:
        self._records = SegmentRecords(store)
        self._name = name
        self.before = before
        self._init = (
            before.init
            if before is not None
            else self._records.write_init(FILM, RENDITION, name, b"header")
        )

    def write(self, *, frames: int = 24, ended: bool = False, fault: str = "") -> SegmentRecord:
        before = self.before
        number = before.number + 1 if before is not None else 1
        segment = self._records.write_segment(
            FILM, RENDITION, self._name, number, b"segment", frames=24, first_pts=0
        )
        record = SegmentRecord(
            number=number,
            segment=segment,
            init=self._init,
            latents=None,
            begins=resume_digest(before.resume) if before is not None else "",
            resume=point(number, ended=ended, frames=frames),
            fault=SegmentFault(fault, "It is damaged.") if fault else None,
        )
        self._records.write(record)
        self.before = record
        return record


def chain(store: ObjectStore, after: SegmentRecord | None = None) -> list[SegmentRecord]:
    return longest_chain(RecordsReader(store, FILM, RENDITION).look(), after)


def test_nothing_is_no_chain(object_store: ObjectStore) -> None:
    assert chain(object_store) == []
    assert newest_record(object_store, FILM, RENDITION) is None


def test_what_is_written_is_read_again(object_store: ObjectStore) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    written = [one.write(), one.write(), one.write(ended=True, fault="FILM_DAMAGED")]
    assert chain(object_store) == written
    assert [record.is_last for record in written] == [False, False, True]
    assert newest_record(object_store, FILM, RENDITION) == written[-1]


def test_attempts_lie_apart(object_store: ObjectStore) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    written = one.write()
    folder = "films/film/renditions/rendition/000001-aa"
    assert written.init.key == f"{folder}/init.mp4"
    assert written.segment.key == f"{folder}/000001.m4s"
    assert [found.key for found in object_store.list("")] == [
        f"{folder}/000001.json",
        f"{folder}/000001.m4s",
        f"{folder}/init.mp4",
    ]
    assert object_store.get(written.init.key) == b"header"


def test_the_newest_record_is_the_farthest_one_and_of_these_the_newest_attempts(
    object_store: ObjectStore,
) -> None:
    one = RenditionWriter(object_store, "000001-ff")
    one.write()
    farthest = one.write()
    two = RenditionWriter(object_store, "000002-aa")
    two.write()
    assert newest_record(object_store, FILM, RENDITION) == farthest
    farther = two.write(frames=25)
    assert newest_record(object_store, FILM, RENDITION) == farther


def test_a_first_segment_begins_with_nothing_before_it(object_store: ObjectStore) -> None:
    first = RenditionWriter(object_store, "000001-aa").write()
    assert first.fits(None)
    assert not replace(first, number=2).fits(None)
    assert not replace(first, begins="elsewhere").fits(None)


def test_a_resume_points_digest_is_the_same_in_every_version_of_the_service() -> None:
    text = (
        '{"format":1,"frames":24,"position":"1","reading":{"finished":1,"pts":1000,"state":{}},'
        '"segments":1,"warnings":[],"writing":{"fragments":1}}'
    )
    assert resume_digest(point(1)) == hashlib.sha256(text.encode()).hexdigest()


def test_each_record_is_read_once_and_nothing_else(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    written = [one.write(), one.write(), one.write()]
    keys = [record.segment.key.replace(".m4s", ".json") for record in written]
    read: list[str] = []
    get = object_store.get

    def counted(key: str) -> bytes:
        read.append(key)
        if read == keys[:1]:
            # Removed between the listing and the read: the others are found all the same.
            raise ObjectNotFoundError(key)
        return get(key)

    monkeypatch.setattr(object_store, "get", counted)
    reader = RecordsReader(object_store, FILM, RENDITION)
    assert reader.look() == written[1:]
    assert read == keys
    assert {record.number for record in reader.look()} == {1, 2, 3}
    assert read == [*keys, keys[0]]


def test_a_segment_without_its_record_does_not_count(object_store: ObjectStore) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    first = one.write()
    SegmentRecords(object_store).write_segment(
        FILM, RENDITION, "000001-aa", 2, b"half", frames=24, first_pts=0
    )
    assert chain(object_store) == [first]


def test_an_attempt_goes_on_where_another_ended(object_store: ObjectStore) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    first, second = one.write(), one.write()
    two = RenditionWriter(object_store, "000002-bb", second)
    third = two.write()
    assert chain(object_store) == [first, second, third]
    # A slow replica's late segment is another third one; who is farther counts.
    late = one.write()
    fourth = two.write()
    assert chain(object_store) == [first, second, third, fourth]
    # Alike as they begin and end, either can be gone on after.
    assert chain(object_store, after=late) == [fourth]


@pytest.mark.parametrize("different", ["frames", "beginning"])
def test_what_does_not_continue_is_left_out(object_store: ObjectStore, different: str) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    first, second = one.write(), one.write()
    two = RenditionWriter(object_store, "000002-bb", first if different == "frames" else None)
    if different == "beginning":
        two.write(frames=25)
    other = two.write(frames=25)
    two.write()
    assert other.number == 2
    assert [record.attempt for record in chain(object_store)][-1] == "000002-bb"
    assert chain(object_store, after=second) == []


def test_no_attempt_resumes_after_a_film_s_end(object_store: ObjectStore) -> None:
    one = RenditionWriter(object_store, "000001-aa")
    last = one.write(fault="FILM_DAMAGED")
    RenditionWriter(object_store, "000002-bb", last).write()
    assert chain(object_store) == [last]


def test_of_alike_ones_the_newest_attempt_counts(object_store: ObjectStore) -> None:
    RenditionWriter(object_store, "000001-aa").write()
    newer = RenditionWriter(object_store, "000002-bb").write()
    assert chain(object_store) == [newer]


def test_a_record_of_another_version_is_skipped(object_store: ObjectStore) -> None:
    first = RenditionWriter(object_store, "000001-aa").write()
    key = first.segment.key.replace("000001.m4s", "000002.json")
    object_store.put(key, b'{"version": 99}')
    assert chain(object_store) == [first]
