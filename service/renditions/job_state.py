"""The state of a rendition job: its finished segments, and its end."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from service.errors import DataLossError, ServiceError
from service.library.renditions import RenditionManifest
from service.library.segment_records import SegmentRecord


class JobState:
    """Written by the job, read by everything that waits for it; for one event loop."""

    def __init__(self) -> None:
        self.segments: list[SegmentRecord] = []
        """The finished segments, in order; only grows."""
        self.manifest: RenditionManifest | None = None
        """Set once the rendition is complete."""
        self.fault: ServiceError | None = None
        """Set once the job has failed."""
        self._changed = asyncio.Event()

    @property
    def last(self) -> SegmentRecord | None:
        """The newest finished segment."""
        return self.segments[-1] if self.segments else None

    @property
    def frames(self) -> int:
        """Frames in the finished segments."""
        return self.segments[-1].resume.frames if self.segments else 0

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.manifest is not None or self.fault is not None

    def extend(self, records: Iterable[SegmentRecord]) -> None:
        """Add finished segments that follow the last one."""
        known = len(self.segments)
        self.segments.extend(records)
        if len(self.segments) > known:
            self._tell()

    def finish(self, manifest: RenditionManifest) -> None:
        """Mark the rendition as complete."""
        self.manifest = manifest
        self._tell()

    def fail(self, fault: ServiceError) -> None:
        """Mark the job as failed; the first error is kept."""
        if not self.ended:
            self.fault = fault
            self._tell()

    async def changed(self, seconds: float | None = None) -> None:
        """Wait for a change, at most `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def end_of_film(record: SegmentRecord) -> DataLossError:
    """Return the error for a film that cannot be decoded beyond its last segment."""
    fault, point = record.fault, record.resume
    position = f"{float(point.position):.3f}"
    what = fault.message.rstrip(".") if fault is not None else "the film ends"
    return DataLossError(
        f"{what}; delivered: {point.frames} frames, {position} s of the film",
        reason=fault.reason if fault is not None else None,
        metadata={"frames": str(point.frames), "position_seconds": position},
    )
