"""What is known of a rendition in the making: its whole segments, and how it ended."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from service.errors import DataLossError, ServiceError
from service.library.renditions import RenditionManifest
from service.library.segment_records import SegmentRecord


class JobState:
    """Written by the work, read by everyone who waits for it; on one event loop."""

    def __init__(self) -> None:
        self.segments: list[SegmentRecord] = []
        """The whole ones, in order from the first; it only grows."""
        self.manifest: RenditionManifest | None = None
        """Once the rendition is complete."""
        self.fault: ServiceError | None = None
        """Once it is known that it will not be completed."""
        self._changed = asyncio.Event()

    @property
    def last(self) -> SegmentRecord | None:
        """The newest whole segment."""
        return self.segments[-1] if self.segments else None

    @property
    def frames(self) -> int:
        """Frames in the whole segments."""
        return self.segments[-1].resume.frames if self.segments else 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.manifest is not None or self.fault is not None

    def extend(self, records: Iterable[SegmentRecord]) -> None:
        """Add whole segments that go on where the last one ended."""
        known = len(self.segments)
        self.segments.extend(records)
        if len(self.segments) > known:
            self._tell()

    def finish(self, manifest: RenditionManifest) -> None:
        """Say that the rendition is complete."""
        self.manifest = manifest
        self._tell()

    def fail(self, fault: ServiceError) -> None:
        """Say that the rendition will not be completed, and why; the first reason stays."""
        if not self.ended:
            self.fault = fault
            self._tell()

    async def changed(self, seconds: float | None = None) -> None:
        """Wait for anything new, but no longer than `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def end_of_film(record: SegmentRecord) -> DataLossError:
    """Return the error of a film that cannot be decoded beyond a segment, its last."""
    fault, point = record.fault, record.resume
    position = f"{float(point.position):.3f}"
    what = fault.message.rstrip(".") if fault is not None else "the film ends"
    return DataLossError(
        f"{what}; delivered: {point.frames} frames, {position} s of the film",
        reason=fault.reason if fault is not None else None,
        metadata={"frames": str(point.frames), "position_seconds": position},
    )
