"""Remuxes a film: longer, shorter or in another container, without encoding."""

from fractions import Fraction
from pathlib import Path

import av


def copy_film(
    film: Path,
    out: Path,
    *,
    times: int = 1,
    seconds: float | None = None,
    index_in_front: bool = True,
) -> Path:
    """Write a film's packets to `out`, whose suffix names the container.

    Args:
        film: The film; its packets must be in presentation order or carry their dts.
        out: Where to write; a file there is replaced.
        times: How often to repeat the film.
        seconds: Where to stop within the film; None for its end.
        index_in_front: Whether an MP4's index is before the pictures or after them.
    """
    options = {"movflags": "faststart"} if out.suffix == ".mp4" and index_in_front else {}
    with av.open(out, "w", options=options) as output:
        start = Fraction(0)
        for number in range(times):
            with av.open(film) as source:
                streams = {s.index: s for s in source.streams if s.type in ("video", "audio")}
                if not number:
                    copies = {
                        index: output.add_stream_from_template(stream)
                        for index, stream in streams.items()
                    }
                first, length = Fraction(0), Fraction(0)
                for packet in source.demux(list(streams.values())):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue  # FFmpeg's flush packet.
                    if seconds is not None and packet.pts * packet.time_base >= seconds:
                        continue
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    length = max(length, end)
                    first = min(first, packet.dts * packet.time_base)
                    shift = round(start / packet.time_base)
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = copies[packet.stream.index]
                    output.mux(packet)
                # The first dts may be negative.
                start += length - first
    return out
