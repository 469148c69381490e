"""What a film is, as JSON holds it."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from film.facts import FilmFacts, SoundAction, SoundTrack


def facts_to_json(facts: FilmFacts) -> dict[str, object]:
    """Return a film's facts as JSON holds them; fractions as "numerator/denominator"."""
    return {
        "container": facts.container,
        "video_codec": facts.video_codec,
        "width": facts.width,
        "height": facts.height,
        "sample_aspect_ratio": str(facts.sample_aspect_ratio),
        "rotation": facts.rotation,
        "average_frame_rate": _optional(facts.average_frame_rate),
        "time_base": str(facts.time_base),
        "duration": _optional(facts.duration),
        "estimated_frames": facts.estimated_frames,
        "interlaced": facts.interlaced,
        "transfer": facts.transfer,
        "tone_mapped": facts.tone_mapped,
        "bit_depth": facts.bit_depth,
        "sound_tracks": [
            {
                "codec": track.codec,
                "sample_rate": track.sample_rate,
                "channels": track.channels,
                "language": track.language,
                "action": track.action.value,
            }
            for track in facts.sound_tracks
        ],
    }


def facts_from_json(data: Mapping[str, Any]) -> FilmFacts:
    """Return what `facts_to_json` made JSON of; raises KeyError, TypeError or ValueError."""
    return FilmFacts(
        container=str(data["container"]),
        video_codec=str(data["video_codec"]),
        width=int(data["width"]),
        height=int(data["height"]),
        sample_aspect_ratio=Fraction(data["sample_aspect_ratio"]),
        rotation=int(data["rotation"]),
        average_frame_rate=_fraction(data["average_frame_rate"]),
        time_base=Fraction(data["time_base"]),
        duration=_fraction(data["duration"]),
        estimated_frames=None
        if data["estimated_frames"] is None
        else int(data["estimated_frames"]),
        interlaced=bool(data["interlaced"]),
        transfer=str(data["transfer"]),
        tone_mapped=bool(data["tone_mapped"]),
        bit_depth=int(data["bit_depth"]),
        sound_tracks=tuple(
            SoundTrack(
                codec=str(track["codec"]),
                sample_rate=int(track["sample_rate"]),
                channels=int(track["channels"]),
                language=str(track["language"]),
                action=SoundAction(track["action"]),
            )
            for track in data["sound_tracks"]
        ),
    )


def _optional(value: Fraction | None) -> str | None:
    return None if value is None else str(value)


def _fraction(value: str | None) -> Fraction | None:
    return None if value is None else Fraction(value)
