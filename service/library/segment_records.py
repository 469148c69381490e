"""The segments of an unfinished rendition, each committed by its record.

A record has the segment's facts and its resume point. Segments of several attempts (a killed
service's, a slow replica's) may exist; those that continue each other form a chain, and a job
resumes after the longest one. Nothing is copied or rewritten.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from film.segments import ResumePoint
from service.library import layout
from service.library.latents_manifest import LatentsPart
from service.library.records import RecordFormat, StoredResumePoint, UnreadableRecordError
from service.library.renditions import RenditionSegment
from service.storage.objects import ObjectNotFoundError, ObjectStore

_RECORD = re.compile(r"\d{6}-[0-9a-f]+/\d{6}\.json")


class InitSegment(NamedTuple):
    """The header that precedes a rendition's segments."""

    key: str
    size: int
    digest: str
    """SHA-256, 64 hexadecimal digits."""

    @classmethod
    def of(cls, key: str, data: bytes) -> "InitSegment":
        """Return the facts about a header's bytes."""
        return cls(key, len(data), hashlib.sha256(data).hexdigest())


class SegmentFault(NamedTuple):
    """Why a film cannot be decoded beyond a segment."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """One committed segment."""

    number: int
    """Counted from 1."""
    segment: RenditionSegment
    init: InitSegment
    latents: LatentsPart | None
    """None if the film's latents for this model were already complete."""
    begins: str
    """The digest of the resume point before it; empty for the first."""
    resume: StoredResumePoint
    """How to resume after it."""
    fault: SegmentFault | None
    """For a last segment: why the film cannot be decoded further."""

    @property
    def key(self) -> str:
        """The key of the record itself, beside the segment."""
        return self.segment.key.removesuffix(".m4s") + ".json"

    @property
    def is_last(self) -> bool:
        """Whether the film ends with it."""
        return self.resume.ended or self.fault is not None

    @property
    def attempt(self) -> str:
        """The attempt that made it."""
        return layout.attempt_of(self.segment.key)

    def fits(self, before: "SegmentRecord | None") -> bool:
        """Return whether it continues exactly where `before` (None: nothing) ended."""
        if before is None:
            return self.number == 1 and not self.begins
        return (
            self.number == before.number + 1
            and not before.is_last
            and self.begins == resume_digest(before.resume)
            and self.init.digest == before.init.digest
        )

    def encode(self) -> bytes:
        """Return the record in its stored form."""
        return _FORMAT.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "SegmentRecord | None":
        """Parse a stored record; None if this version cannot read it."""
        try:
            return _FORMAT.decode(data)
        except UnreadableRecordError:
            return None


_FORMAT = RecordFormat(SegmentRecord)


class SegmentRecords:
    """Writes the segments of any rendition. Blocking and thread-safe."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def write_init(self, film: str, rendition: str, attempt: str, data: bytes) -> InitSegment:
        """Write an attempt's header."""
        init = InitSegment.of(_folder(film, rendition, attempt) + "init.mp4", data)
        self._store.put(init.key, data)
        return init

    def write_segment(
        self,
        film: str,
        rendition: str,
        attempt: str,
        number: int,
        data: bytes,
        *,
        frames: int,
        first_pts: int,
    ) -> RenditionSegment:
        """Write a segment's bytes; it is not committed until its record is written."""
        key = f"{_folder(film, rendition, attempt)}{number:06d}.m4s"
        self._store.put(key, data)
        return RenditionSegment(key, len(data), frames, first_pts, hashlib.sha256(data).hexdigest())

    def write(self, record: SegmentRecord) -> None:
        """Commit a segment."""
        self._store.put(record.key, record.encode())


class RecordsReader:
    """Lists the committed segments of one rendition, reading each record once. Blocks."""

    def __init__(self, store: ObjectStore, film: str, rendition: str) -> None:
        self._store = store
        self._folder = layout.rendition_folder(film, rendition)
        self._known: dict[str, SegmentRecord | None] = {}

    def look(self) -> list[SegmentRecord]:
        """Return all current records, of all attempts."""
        for info in self._store.list(self._folder):
            key = info.key
            if key not in self._known and _RECORD.fullmatch(key.removeprefix(self._folder)):
                try:
                    self._known[key] = SegmentRecord.decode(self._store.get(key))
                except ObjectNotFoundError:
                    continue
        return [record for record in self._known.values() if record is not None]


def newest_record(store: ObjectStore, film: str, rendition: str) -> SegmentRecord | None:
    """Return the committed segment that is farthest in the film, reading no other."""
    folder = layout.rendition_folder(film, rendition)
    keys = [
        info.key for info in store.list(folder) if _RECORD.fullmatch(info.key.removeprefix(folder))
    ]
    if not keys:
        return None
    try:
        return SegmentRecord.decode(store.get(max(keys, key=lambda key: key.split("/")[::-1])))
    except ObjectNotFoundError:
        return None


def longest_chain(
    records: Iterable[SegmentRecord], after: SegmentRecord | None = None
) -> list[SegmentRecord]:
    """Return the longest chain of segments after `after`; on a tie, that of newer attempts."""
    by_number: defaultdict[int, list[SegmentRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.attempt, reverse=True):
        by_number[record.number].append(record)
    start = after.number + 1 if after is not None else 1
    tails: list[list[SegmentRecord]] = []
    for number in range(max(by_number, default=0), start - 1, -1):
        tails = [
            [record, *next((tail for tail in tails if tail[0].fits(record)), [])]
            for record in by_number[number]
        ]
        tails.sort(key=len, reverse=True)
    return next((tail for tail in tails if tail[0].fits(after)), [])


def resume_digest(resume: ResumePoint) -> str:
    """Return the digest of a resume point; segments with equal digests are interchangeable."""
    text = json.dumps(resume.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(film: str, rendition: str, attempt: str) -> str:
    return f"{layout.rendition_folder(film, rendition)}{attempt}/"
