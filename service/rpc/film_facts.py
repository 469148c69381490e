"""What a film is, as a message."""

from fractions import Fraction

from google.protobuf.duration_pb2 import Duration
from refilm.v1 import autoencoder_pb2 as pb

from film.facts import FilmFacts, SoundAction

_NANOSECONDS = 10**9

_ACTIONS = {
    SoundAction.COPY: pb.SOUND_TRACK_ACTION_COPIED,
    SoundAction.TRANSCODE: pb.SOUND_TRACK_ACTION_TRANSCODED,
    SoundAction.DROP: pb.SOUND_TRACK_ACTION_DROPPED,
}


def facts_message(facts: FilmFacts) -> pb.FilmFacts:
    """Return a film's facts; those about an output are not set."""
    return pb.FilmFacts(
        container=facts.container,
        video_codec=facts.video_codec,
        width=facts.width,
        height=facts.height,
        sample_aspect_ratio=_rational(facts.sample_aspect_ratio),
        rotation_degrees=facts.rotation,
        average_frame_rate=_rational(facts.average_frame_rate or Fraction(0)),
        time_base=_rational(facts.time_base),
        duration=None if facts.duration is None else exact_duration(facts.duration),
        estimated_frames=facts.estimated_frames or 0,
        interlaced=facts.interlaced,
        transfer=facts.transfer,
        tone_mapped=facts.tone_mapped,
        bit_depth=facts.bit_depth,
        sound_tracks=[
            pb.SoundTrack(
                codec=track.codec,
                sample_rate_hz=track.sample_rate,
                channels=track.channels,
                language=track.language,
                action=_ACTIONS[track.action],
            )
            for track in facts.sound_tracks
        ],
    )


def exact_duration(seconds: Fraction) -> Duration:
    """Return a protobuf duration, to the nanosecond; times of films are exact fractions."""
    whole, rest = divmod(round(seconds * _NANOSECONDS), _NANOSECONDS)
    return Duration(seconds=whole, nanos=rest)


def _rational(value: Fraction) -> pb.Rational:
    return pb.Rational(numerator=value.numerator, denominator=value.denominator)
