"""Calls against a scripted server: values, errors, retries, deadlines."""

import threading
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import grpc
import numpy as np
import pytest
import refilm
import refilm.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from refilm.v1 import autoencoder_pb2 as pb

from tests.client.scripted_service import IDENTITY, ScriptedService, latent, rich

LATENT = [float(number) / 7 for number in range(200)]


def encoded(embedding: bool = False) -> pb.EncodeResponse:
    return pb.EncodeResponse(
        latent=latent(LATENT),
        embedding=pb.Embedding(values=[0.5] * 200) if embedding else None,
        model=IDENTITY,
        timing=pb.Timing(queue=Duration(nanos=2_000_000), compute=Duration(seconds=1)),
    )


def test_encode_sends_pixels_and_returns_float32(scripted: ScriptedService) -> None:
    scripted.on_encode = lambda request, context: encoded(request.include_embedding)
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with refilm.Client(scripted.address) as client:
        # A view that is not contiguous must arrive as what it shows.
        encoding = client.encode(pixels[:, ::2], model="pca", version=2, embedding=True)

    sent = scripted.requests[0]
    assert (sent.frame.raw.width, sent.frame.raw.height) == (3, 4)
    assert sent.frame.raw.rgb == pixels[:, ::2].tobytes()
    assert (sent.model.name, sent.model.digest) == ("models/pca/versions/2", "")
    assert encoding.latent.dtype == np.float32
    np.testing.assert_array_equal(encoding.latent, np.array(LATENT, np.float32))
    assert encoding.embedding is not None and encoding.embedding.shape == (200,)
    assert encoding.model == refilm.ModelIdentity("pca", 2, IDENTITY.digest)
    assert encoding.timing == refilm.Timing(queue=0.002, compute=1.0)


def test_encode_takes_a_picture_files_bytes_or_its_path(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    scripted.on_encode = lambda request, context: encoded()
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG and so on")
    with refilm.Client(scripted.address) as client:
        by_path = client.encode(file)
        by_bytes = client.encode(file.read_bytes())
        client.encode(str(file))
        client.encode(memoryview(file.read_bytes()))

    assert {request.frame.image for request in scripted.requests} == {file.read_bytes()}
    assert by_path == by_bytes
    assert len({by_path, by_bytes}) == 1
    assert repr(by_path).startswith("Encoding([0, 0.1429, 0.2857, …], model=ModelIdentity(")


@pytest.mark.parametrize(
    ("frame", "error", "words"),
    [
        (np.zeros((4, 4), np.uint8), ValueError, r"\[H, W, 3\], not \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"not \[4, 4, 4\]"),
        (np.zeros((4, 4, 3), np.float32), TypeError, "uint8"),
        (3, TypeError, "not int"),
        (np.zeros((4000, 4000, 3), np.uint8), ValueError, "45.8 MiB and a message holds 32 MiB"),
    ],
)
def test_a_frame_of_another_kind_is_refused_before_it_is_sent(
    scripted: ScriptedService, frame: object, error: type[Exception], words: str
) -> None:
    with refilm.Client(scripted.address) as client, pytest.raises(error, match=words):
        client.encode(frame)  # type: ignore[arg-type]
    assert scripted.requests == []


@pytest.mark.parametrize(
    "numbers", [LATENT, array("d", LATENT), np.array(LATENT), np.array(LATENT, np.float32)]
)
def test_decode_takes_any_sequence_and_gives_pixels(
    scripted: ScriptedService, numbers: list[float]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (144, 256, 3), np.uint8)
    raw = pb.RawImage(width=256, height=144, rgb=pixels.tobytes())
    scripted.on_decode = lambda request, context: pb.DecodeResponse(
        frame=pb.Frame(raw=raw), model=IDENTITY
    )
    identity = refilm.ModelIdentity("pca", 2, IDENTITY.digest)
    with refilm.Client(scripted.address) as client:
        picture = client.decode(numbers, model=identity)

    np.testing.assert_allclose(scripted.requests[0].latent.floats.values, LATENT, rtol=1e-6)
    assert scripted.requests[0].model.digest == IDENTITY.digest
    np.testing.assert_array_equal(picture.pixels, pixels)
    np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_picture_file_has_no_pixels(scripted: ScriptedService) -> None:
    scripted.on_decode = lambda request, context: pb.DecodeResponse(
        frame=pb.Frame(image=b"png"), model=IDENTITY
    )
    with refilm.Client(scripted.address) as client:
        picture = client.decode(LATENT, format="png")
        with pytest.raises(ValueError, match="one of raw, png, jpeg, webp, not 'gif'"):
            client.decode(LATENT, format="gif")  # type: ignore[arg-type]
    assert (picture.data, picture.format) == (b"png", "png")
    with pytest.raises(ValueError, match="png file"):
        _ = picture.pixels


def test_an_error_carries_what_the_service_said(scripted: ScriptedService) -> None:
    def refuse(request: pb.EncodeRequest, context: grpc.ServicerContext) -> object:
        context.abort_with_status(
            rich(
                grpc.StatusCode.INVALID_ARGUMENT,
                "frame.raw.rgb: 3 bytes are not 4 x 4 x 3",
                error_details_pb2.ErrorInfo(
                    domain="refilm", reason="INVALID_FIELD", metadata={"expected": "48"}
                ),
                error_details_pb2.BadRequest(
                    field_violations=[
                        error_details_pb2.BadRequest.FieldViolation(
                            field="frame.raw.rgb", description="3 bytes are not 4 x 4 x 3"
                        )
                    ]
                ),
            )
        )

    scripted.on_encode = refuse
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.InvalidRequestError) as caught,
    ):
        client.encode(b"not checked here")
    error = caught.value
    assert str(error) == "frame.raw.rgb: 3 bytes are not 4 x 4 x 3"
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_FIELD"
    assert error.metadata == {"expected": "48"}
    assert error.violations == (
        refilm.FieldViolation("frame.raw.rgb", "3 bytes are not 4 x 4 x 3"),
    )
    assert error.retry_after is None
    assert isinstance(error, refilm.RequestError)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, refilm.NotFoundError),
        (grpc.StatusCode.FAILED_PRECONDITION, refilm.PreconditionError),
        (grpc.StatusCode.DATA_LOSS, refilm.DataLossError),
        (grpc.StatusCode.CANCELLED, refilm.CancelledError),
        (grpc.StatusCode.INTERNAL, refilm.InternalError),
        (grpc.StatusCode.UNIMPLEMENTED, refilm.RequestError),
    ],
)
def test_every_status_has_its_error(
    scripted: ScriptedService, code: grpc.StatusCode, kind: type[refilm.RefilmError]
) -> None:
    scripted.on_encode = lambda request, context: context.abort(code, "in plain words")
    with refilm.Client(scripted.address) as client, pytest.raises(kind) as caught:
        client.encode(b"x")
    assert type(caught.value) is kind
    assert str(caught.value) == "in plain words"


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
@pytest.mark.parametrize("size", [10, 10_000_000])
def test_encode_is_tried_again_at_the_servers_pace(
    scripted: ScriptedService, code: grpc.StatusCode, size: int
) -> None:
    def answer(request: pb.EncodeRequest, context: grpc.ServicerContext) -> object:
        if len(scripted.requests) < 3:
            # Without the push-back the third attempt would come within a second.
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            context.abort(code, "not now")
        return encoded()

    scripted.on_encode = answer
    with refilm.Client(scripted.address) as client:
        assert client.encode(b"x" * size).model.name == "pca"
    # The default buffer of gRPC would have let the large one fail at once.
    assert [len(request.frame.image) for request in scripted.requests] == [size] * 3


def test_a_server_that_says_so_is_not_tried_again(scripted: ScriptedService) -> None:
    def refuse(request: pb.EncodeRequest, context: grpc.ServicerContext) -> object:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "-1"),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "never")

    scripted.on_encode = refuse
    with refilm.Client(scripted.address) as client, pytest.raises(refilm.OverloadedError):
        client.encode(b"x")
    assert len(scripted.requests) == 1


def test_overload_says_when_to_come_back(scripted: ScriptedService) -> None:
    status = rich(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "all places are taken",
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
    )

    def refuse(requests: object, context: grpc.ServicerContext) -> object:
        context.abort_with_status(status)

    scripted.on_reconstruct = refuse
    with (
        refilm.Client(scripted.address) as client,
        pytest.raises(refilm.OverloadedError) as caught,
    ):
        list(client.reconstruct_stream(Path(__file__)))
    assert caught.value.retry_after == 2.5


def test_a_call_ends_at_its_deadline(scripted: ScriptedService) -> None:
    def wait(request: pb.EncodeRequest, context: grpc.ServicerContext) -> object:
        context.add_callback(scripted.cancelled.set)
        scripted.cancelled.wait(60)
        return encoded()

    scripted.on_encode = wait
    with (
        refilm.Client(scripted.address, timeout=0.2) as client,
        pytest.raises(refilm.DeadlineError, match="did not answer within"),
    ):
        client.encode(b"x")
    assert scripted.cancelled.wait(60)


def test_every_call_has_a_deadline_unless_told_otherwise(scripted: ScriptedService) -> None:
    left: list[float | None] = []

    def note(request: pb.EncodeRequest, context: grpc.ServicerContext) -> object:
        left.append(context.time_remaining())
        return encoded()

    scripted.on_encode = note
    with refilm.Client(scripted.address) as client:
        client.encode(b"x")
        client.encode(b"x", timeout=float("inf"))
    assert left[0] is not None and 20 < left[0] < 31
    # gRPC's word for no deadline at all.
    assert left[1] is None or left[1] > 10**8, left


def test_nobody_there_is_named() -> None:
    with (
        refilm.Client("127.0.0.1:1") as client,
        pytest.raises(refilm.UnavailableError, match=r"the service at 127\.0\.0\.1:1 cannot"),
    ):
        client.models()


def test_models_come_from_all_pages(scripted: ScriptedService) -> None:
    def page(request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        number = int(request.page_token or 0)
        model = pb.Model(
            name=f"models/m{number}",
            latest_version=f"models/m{number}/versions/1",
            is_default=number == 1,
        )
        version = model.versions.add(
            name=f"models/m{number}/versions/1",
            digest="sha256:0",
            recipe="pca",
            latent_size=200,
            frame_width=256,
            frame_height=144,
        )
        version.card.update({"frames": 10, "metrics": {"psnr": 21.5}})
        return pb.ListModelsResponse(
            models=[model], next_page_token=str(number + 1) if number < 2 else ""
        )

    scripted.on_list = page
    with refilm.Client(scripted.address) as client:
        models = client.models()
    assert [model.name for model in models] == ["m0", "m1", "m2"]
    assert [model.is_default for model in models] == [False, True, False]
    version = models[0].versions[0]
    assert (models[0].latest_version, version.version) == (1, 1)
    assert (version.latent_size, version.frame_width, version.frame_height) == (200, 256, 144)
    assert version.card == {"frames": 10, "metrics": {"psnr": 21.5}}


def _echo(
    requests: Iterable[pb.EncodeStreamRequest], context: grpc.ServicerContext
) -> Iterator[pb.EncodeStreamResponse]:
    index = 0
    for request in requests:
        if request.WhichOneof("payload") == "frame":
            yield pb.EncodeStreamResponse(index=index, latent=latent([index] * 200), model=IDENTITY)
            index += 1


def test_encode_stream_keeps_the_order(scripted: ScriptedService) -> None:
    scripted.on_encode_stream = _echo
    with refilm.Client(scripted.address) as client:
        encodings = list(client.encode_stream(b"frame" for _ in range(100)))
    assert [encoding.latent[0] for encoding in encodings] == list(range(100))


async def test_the_asynchronous_stream_takes_both_kinds_of_iterables(
    scripted: ScriptedService,
) -> None:
    async def frames():
        for _ in range(5):
            yield b"frame"

    scripted.on_encode_stream = _echo
    async with refilm.aio.Client(scripted.address) as client:
        first = [encoding.latent[0] async for encoding in client.encode_stream(frames())]
        second = [encoding.latent[0] async for encoding in client.encode_stream([b"x"] * 5)]
    assert first == second == list(range(5))


def _broken():
    yield b"frame"
    raise KeyError("the caller's own")


def test_what_the_callers_frames_raise_is_raised(
    scripted: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    started = threading.Event()

    def frames():
        yield b"frame"
        assert started.wait(60)
        raise KeyError("the caller's own")

    def answer(requests, context):
        started.set()
        yield from _echo(requests, context)

    scripted.on_encode_stream = answer
    with refilm.Client(scripted.address) as client, pytest.raises(KeyError, match="own"):
        list(client.encode_stream(frames()))
    assert scripted.cancelled.wait(60)
    assert "iterating requests" not in caplog.text


async def test_what_the_callers_frames_raise_is_raised_in_asyncio(
    scripted: ScriptedService,
) -> None:
    scripted.on_encode_stream = _echo
    async with refilm.aio.Client(scripted.address) as client:
        with pytest.raises(KeyError, match="own"):
            _ = [encoding async for encoding in client.encode_stream(_broken())]


def test_leaving_a_stream_ends_the_call(scripted: ScriptedService) -> None:
    def endless():
        while True:
            yield b"frame"

    scripted.on_encode_stream = _echo
    with refilm.Client(scripted.address) as client:
        stream = client.encode_stream(endless())
        next(stream)
        stream.close()
        assert scripted.cancelled.wait(60)


def test_model_identity_and_another_version_contradict(scripted: ScriptedService) -> None:
    identity = refilm.ModelIdentity("pca", 2, "sha256:0")
    with refilm.Client(scripted.address) as client, pytest.raises(ValueError, match="version 2"):
        client.encode(b"x", model=identity, version=3)


def test_values_print_what_they_are() -> None:
    batch = refilm.LatentBatch(pts=(0, 1), latents=np.zeros((2, 200), np.float32))
    assert repr(batch) == "LatentBatch(pts=(0, 1), latents=[2, 200])"
    assert batch == refilm.LatentBatch((0, 1), np.zeros((2, 200), np.float32))
    assert batch != refilm.LatentBatch((0, 1), np.ones((2, 200), np.float32))
    assert Fraction(1, 2) != batch
