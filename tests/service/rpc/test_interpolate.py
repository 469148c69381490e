"""Interpolate over a socket: pictures and films between moments and latents."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import latents_pb2 as pb

from service.library import layout
from service.library.records import StoredModel
from service.search.interpolation import Mode, interpolate
from tests.support.latents_library import Library
from tests.support.messages import latent, selector
from tests.support.status import error_of
from tests.support.stored_latents import add_latents, model, random_rows

GONE = model("d", "forgotten")
ROWS = random_rows(100, gaps=(1001, 1001, 3000))
RAW = pb.INTERPOLATION_FORMAT_RAW


def moment(film: str, row: int) -> pb.InterpolationEnd:
    """A moment in the middle of a frame."""
    time = Duration()
    time.FromNanoseconds(int((ROWS.seconds[row] + Fraction(1, 100)) * 10**9))
    return pb.InterpolationEnd(moment=pb.FilmMoment(film=film, time=time))


def given(row: int, made_by: StoredModel | None = None) -> pb.InterpolationEnd:
    digest = made_by.digest if made_by else ""
    values = ROWS.latents[row].tolist()
    return pb.InterpolationEnd(latent=latent(values, digest))


def request(
    first: pb.InterpolationEnd, last: pb.InterpolationEnd, steps: int = 5, **settings
) -> pb.InterpolateRequest:
    return pb.InterpolateRequest(start=first, end=last, steps=steps, **settings)


def answered(library: Library, question: pb.InterpolateRequest) -> tuple[str, list]:
    """Return the digest of the model that decoded, and what followed."""
    first, *rest = library.stub.Interpolate(question)
    assert first.WhichOneof("payload") == "model"
    return first.model.digest, rest


def pictures(library: Library, question: pb.InterpolateRequest) -> tuple[str, np.ndarray]:
    digest, rest = answered(library, question)
    raws = [response.frame.raw for response in rest]
    frames = [np.frombuffer(raw.rgb, np.uint8).reshape(raw.height, raw.width, 3) for raw in raws]
    return digest, np.stack(frames)


def decoded(library: Library, latents: np.ndarray, version: int) -> np.ndarray:
    """The same through Decode."""
    chosen = selector("pca", version)
    return np.stack(
        [
            np.frombuffer(
                library.service.stub.Decode(
                    auto.DecodeRequest(latent=latent(row), model=chosen)
                ).frame.raw.rgb,
                np.uint8,
            ).reshape(144, 256, 3)
            for row in latents
        ]
    )


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Within a grey level: another make-up of batches may round the other way."""
    return one.shape == other.shape and np.abs(one.astype(int) - other.astype(int)).max() <= 1


@pytest.fixture(scope="module")
def film(library: Library) -> str:
    return library.film("first-version", library.models[1], ROWS, part_rows=(40,))


@pytest.fixture(scope="module")
def other_film(library: Library) -> str:
    return library.film("second-version", library.models[2], ROWS)


@pytest.fixture(scope="module")
def gone_film(library: Library) -> str:
    return library.film("of-a-model-gone", GONE, ROWS)


@pytest.mark.parametrize("mode", Mode)
def test_pictures_lie_between_two_moments(library: Library, film: str, mode: Mode) -> None:
    wire = pb.InterpolationMode.Value(f"INTERPOLATION_MODE_{mode.name}")
    question = request(moment(film, 3), moment(film, 62), 7, mode=wire, format=RAW)
    digest, found = pictures(library, question)
    assert digest == library.models[1].digest
    latents = interpolate(ROWS.latents[3], ROWS.latents[62], 7, mode)
    assert close(found, decoded(library, latents, 1))


def test_many_pictures_keep_their_order(library: Library, film: str) -> None:
    _, found = pictures(library, request(moment(film, 0), given(1), 150, format=RAW))
    latents = interpolate(ROWS.latents[0], ROWS.latents[1], 150, Mode.LINEAR)
    sample = [0, 31, 32, 63, 64, 128, 149]
    assert len(found) == 150
    assert close(found[sample], decoded(library, latents[sample], 1))


@pytest.mark.parametrize(
    ("form", "kind", "tolerance"),
    [
        (pb.INTERPOLATION_FORMAT_UNSPECIFIED, "JPEG", 5),
        (pb.INTERPOLATION_FORMAT_JPEG, "JPEG", 5),
        (pb.INTERPOLATION_FORMAT_PNG, "PNG", 0),
    ],
)
def test_pictures_come_in_the_format_asked_for(
    library: Library, film: str, form: int, kind: str, tolerance: int
) -> None:
    ends = moment(film, 3), moment(film, 62)
    _, plain = pictures(library, request(*ends, format=RAW))
    _, rest = answered(library, request(*ends, format=form))
    images = [Image.open(io.BytesIO(response.frame.image)) for response in rest]
    assert [image.format for image in images] == [kind] * 5
    found = np.stack([np.asarray(image.convert("RGB")) for image in images])
    assert np.abs(found.astype(int) - plain.astype(int)).mean() <= tolerance


@pytest.mark.parametrize(
    ("steps", "rate", "expected"),
    [
        (100, None, Fraction(24)),
        (2, (1, 1), Fraction(1)),
        (40, (120, 1), Fraction(120)),
        (33, (24000, 1001), Fraction(24000, 1001)),
    ],
)
def test_a_film_shows_every_step_at_its_time(
    library: Library, film: str, steps: int, rate: tuple[int, int] | None, expected: Fraction
) -> None:
    question = request(moment(film, 3), moment(film, 62), steps)
    question.format = pb.INTERPOLATION_FORMAT_MP4
    if rate is not None:
        question.frame_rate.numerator, question.frame_rate.denominator = rate
    _, rest = answered(library, question)
    assert all(0 < len(response.chunk) <= 2**20 for response in rest)
    with av.open(io.BytesIO(b"".join(response.chunk for response in rest)), "r") as container:
        video = container.streams.video[0]
        assert (video.width, video.height, len(container.streams)) == (256, 144, 1)
        frames = list(container.decode(video))
    times = [frame.pts * frame.time_base for frame in frames]
    assert times == [step / expected for step in range(steps)]
    question.format = RAW
    _, plain = pictures(library, question)
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    assert np.abs(shown.astype(int) - plain.astype(int)).mean() < 5


def test_unset_the_model_is_that_of_the_moments(
    library: Library, film: str, other_film: str
) -> None:
    for name, version in ((film, 1), (other_film, 2)):
        digest, _ = answered(library, request(moment(name, 1), moment(name, 2)))
        assert digest == library.models[version].digest
    digest, _ = answered(library, request(given(1), given(2)))
    assert digest == library.models[2].digest
    digest, _ = answered(library, request(given(1, library.models[1]), given(2)))
    assert digest == library.models[1].digest


def test_of_films_with_several_models_the_common_one_is_taken(library: Library, film: str) -> None:
    both = library.film("with-both", library.models[1], ROWS)
    add_latents(library.store, library.get("with-both"), library.models[2], ROWS)
    digest, _ = answered(library, request(moment(both, 1), moment(film, 2)))
    assert digest == library.models[1].digest
    digest, _ = answered(library, request(moment(both, 1), moment(both, 2)))
    assert digest == library.models[2].digest
    chosen = selector("pca", 1)
    digest, _ = answered(library, request(moment(both, 1), given(2), model=chosen))
    assert digest == library.models[1].digest


@pytest.fixture
def mixtures(library: Library, film: str, other_film: str) -> Iterator[tuple]:
    first, second = library.models[1], library.models[2]
    chosen = auto.ModelSelector(digest=first.digest)
    yield (
        ("MODEL_DIGEST_MISMATCH", request(moment(film, 1), moment(other_film, 1))),
        ("MODEL_DIGEST_MISMATCH", request(moment(film, 1), given(1, second))),
        ("MODEL_DIGEST_MISMATCH", request(given(1, first), given(1, second))),
        ("MODEL_DIGEST_MISMATCH", request(given(1), given(1, second), model=chosen)),
        ("LATENTS_OF_OTHER_MODEL", request(moment(other_film, 1), given(1), model=chosen)),
    )


def test_latents_of_different_models_never_meet(library: Library, mixtures) -> None:
    for reason, question in mixtures:
        error = error_of(lambda question=question: answered(library, question))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
        assert library.models[1].digest in error.message
        assert library.models[2].digest in error.message


def test_what_cannot_be_decoded_any_more_is_refused(library: Library, gone_film: str) -> None:
    error = error_of(lambda: answered(library, request(moment(gone_film, 1), moment(gone_film, 2))))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_DIGEST_NOT_FOUND")
    assert GONE.digest in error.message


def test_a_film_without_latents_is_refused(library: Library) -> None:
    bare = library.film("never-encoded", None, ROWS)
    error = error_of(lambda: answered(library, request(moment(bare, 1), given(2))))
    assert error.reason == "LATENTS_MISSING"


BAD_LATENT = pb.InterpolationEnd(latent=latent([0.0] * 199))
BAD_DIGEST = pb.InterpolationEnd(latent=latent([0.0] * 200, "x"))
BAD_NAME = pb.InterpolationEnd(moment=pb.FilmMoment(film="x"))
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "too few steps": ({"steps": 1}, "steps"),
    "too many steps": ({"steps": 1001}, "steps"),
    "no beginning": ({"start": None}, "start"),
    "an empty end": ({"end": pb.InterpolationEnd()}, "end"),
    "a short latent": ({"end": BAD_LATENT}, "end.latent.floats.values"),
    "no digest": ({"start": BAD_DIGEST}, "start.latent.model_digest"),
    "no film name": ({"start": BAD_NAME}, "start.moment.film"),
    "no mode": ({"mode": 9}, "mode"),
    "no format": ({"format": 9}, "format"),
    "too slow": ({"frame_rate": auto.Rational(numerator=1, denominator=2)}, "frame_rate"),
    "too fast": ({"frame_rate": auto.Rational(numerator=121, denominator=1)}, "frame_rate"),
    "no rate": ({"frame_rate": auto.Rational(numerator=24)}, "frame_rate"),
    "a rate too fine": (
        {"frame_rate": auto.Rational(numerator=24_000_024, denominator=1_000_001)},
        "frame_rate",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused(library: Library, fault: str) -> None:
    changed, field = FAULTS[fault]
    question = {"start": given(1), "end": given(2), "steps": 3, **changed}
    error = error_of(lambda: answered(library, pb.InterpolateRequest(**question)))
    assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_a_moment_beyond_the_film_is_refused_with_its_duration(library: Library, film: str) -> None:
    late = pb.InterpolationEnd(moment=pb.FilmMoment(film=film, time=Duration(seconds=3600)))
    error = error_of(lambda: answered(library, request(late, given(1))))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "TIME_OUT_OF_RANGE")
    assert "from 0 to 6.919458 s" in error.message


def test_a_deleted_film_is_not_interpolated(library: Library) -> None:
    name = library.film("taken-down", library.models[1], ROWS)
    answered(library, request(moment(name, 1), given(2)))
    library.store.delete([layout.film_facts("taken-down")])
    error = error_of(lambda: answered(library, request(moment(name, 1), given(2))))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")


def test_who_leaves_early_leaves_nothing_behind(library: Library, film: str) -> None:
    question = request(moment(film, 3), moment(film, 62), 1000)
    for form in (RAW, pb.INTERPOLATION_FORMAT_MP4):
        question.format = form
        stream = library.stub.Interpolate(question)
        next(stream), next(stream)
        stream.cancel()
    digest, _ = answered(library, request(moment(film, 1), moment(film, 2)))
    assert digest == library.models[1].digest
    assert "Traceback" not in library.service.log.read_text()
