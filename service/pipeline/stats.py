"""Progress of one reconstruction: frames, bytes, seconds, and the position in the film."""

from dataclasses import asdict, dataclass, field
from fractions import Fraction

from film.process.film_process import FrameBatch
from service import metrics
from service.inference import ModelVersion
from service.pipeline.events import Progress, StageSeconds, Summary

_MODEL_QUEUE = metrics.RECONSTRUCTION_QUEUE.labels("model")
_WRITE_QUEUE = metrics.RECONSTRUCTION_QUEUE.labels("write")


@dataclass(slots=True)
class Stats:
    """Counts for one film, which are also added to the service's metrics."""

    model: ModelVersion
    time_base: Fraction = Fraction(0)
    """The film's, once it is known."""
    bytes_received: int = 0
    bytes_sent: int = 0
    frames_decoded: int = 0
    frames_reconstructed: int = 0
    frames_written: int = 0
    position: Fraction = Fraction(0)
    """Seconds from the first frame's presentation to the end of the last written one."""
    seconds: StageSeconds = field(default_factory=StageSeconds)
    _first_pts: int | None = None
    _last_pts: int = 0

    def decoded(self, frames: int) -> None:
        """Count frames read from the film."""
        self.frames_decoded += frames
        _MODEL_QUEUE.inc(frames)

    def reconstructed(self, frames: int, encode_seconds: float, decode_seconds: float) -> None:
        """Count frames that were encoded and decoded, and the time that took."""
        self.frames_reconstructed += frames
        _MODEL_QUEUE.dec(frames)
        _WRITE_QUEUE.inc(frames)
        self.busy(StageSeconds(encode=encode_seconds, decode=decode_seconds))

    def wrote(self, batch: FrameBatch) -> None:
        """Count a written batch."""
        frames = len(batch.pts)
        if not frames:
            return
        if self._first_pts is None:
            self._first_pts = self._last_pts = int(batch.pts[0])
        last, duration = int(batch.pts[-1]), int(batch.durations[-1])
        if duration <= 0:
            # The film does not say: as long as the picture before it.
            duration = last - (int(batch.pts[-2]) if frames > 1 else self._last_pts)
        self._last_pts = last
        self.position = (last + duration - self._first_pts) * self.time_base
        self.frames_written += frames
        _WRITE_QUEUE.dec(frames)
        metrics.FRAMES_RECONSTRUCTED.labels(self.model.name, str(self.model.version)).inc(frames)

    def busy(self, seconds: StageSeconds) -> None:
        """Add to how long the stages were busy."""
        self.seconds += seconds
        for stage, more in asdict(seconds).items():
            metrics.STAGE_SECONDS.labels(stage).inc(more)

    def close(self) -> None:
        """Remove what is still queued from the queues' metrics."""
        _MODEL_QUEUE.dec(self.frames_decoded - self.frames_reconstructed)
        _WRITE_QUEUE.dec(self.frames_reconstructed - self.frames_written)

    def progress(self) -> Progress:
        """Return the progress event."""
        return Progress(
            bytes_received=self.bytes_received,
            frames_decoded=self.frames_decoded,
            frames_reconstructed=self.frames_reconstructed,
            frames_written=self.frames_written,
            position=self.position,
        )

    def summary(self, film_digest: str, warnings: tuple[str, ...]) -> Summary:
        """Return the summary event."""
        return Summary(
            frames=self.frames_written,
            duration=self.position,
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            film_digest=film_digest,
            stage_seconds=self.seconds,
            warnings=warnings,
        )
