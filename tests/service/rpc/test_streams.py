"""EncodeStream and DecodeStream through the real service and the real Triton."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from refilm.v1 import autoencoder_pb2 as pb

from tests.support.messages import latent as latent_message
from tests.support.messages import model_of, selector
from tests.support.service_process import ServiceProcess, wait_for
from tests.support.status import error_of, parse_error
from trainer.export import load_torchscript

FRAMES = np.random.default_rng(7).integers(0, 256, (200, 144, 256, 3), dtype=np.uint8)


def frame_request(frame: NDArray[np.uint8]) -> pb.EncodeStreamRequest:
    raw = pb.RawImage(width=256, height=144, rgb=frame.tobytes())
    return pb.EncodeStreamRequest(frame=pb.Frame(raw=raw))


def latent_request(latent: list[float]) -> pb.DecodeStreamRequest:
    return pb.DecodeStreamRequest(latent=latent_message(latent))


FAULTY_FRAME = pb.EncodeStreamRequest(
    frame=pb.Frame(raw=pb.RawImage(width=256, height=144, rgb=b"short"))
)


def test_a_stream_encodes_in_order_and_equals_the_module(
    service: ServiceProcess, model_repository: Path
) -> None:
    settings = pb.EncodeStreamSettings(include_embedding=True)
    requests = [pb.EncodeStreamRequest(settings=settings), *map(frame_request, FRAMES)]
    answers = list(service.stub.EncodeStream(iter(requests)))
    assert [answer.index for answer in answers] == list(range(len(FRAMES)))
    with torch.inference_mode():
        encoder = load_torchscript(model_repository / "pca_encoder/2/model.pt")
        latents, embeddings = (part.numpy() for part in encoder(torch.from_numpy(FRAMES)))
    # Whatever batches Triton made of them: within 1e-4 of the latents' scale.
    for found, expected in (
        (np.array([answer.latent.floats.values for answer in answers], np.float32), latents),
        (np.array([answer.embedding.values for answer in answers], np.float32), embeddings),
    ):
        assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_a_stream_decodes_in_order_and_equals_the_module(
    service: ServiceProcess, model_repository: Path
) -> None:
    latents = np.random.default_rng(8).normal(0, 2, (150, 200)).astype(np.float32)
    requests = (latent_request(latent.tolist()) for latent in latents)
    answers = list(service.stub.DecodeStream(requests))
    assert [answer.index for answer in answers] == list(range(len(latents)))
    with torch.inference_mode():
        decoder = load_torchscript(model_repository / "pca_decoder/2/model.pt")
        expected = decoder(torch.from_numpy(latents))[0].numpy()
    for answer, frame in zip(answers, expected, strict=True):
        found = np.frombuffer(answer.frame.raw.rgb, np.uint8).reshape(144, 256, 3)
        assert np.abs(found.astype(int) - frame.astype(int)).max() <= 1


def test_a_stream_answers_each_frame_without_waiting_for_the_next(service: ServiceProcess) -> None:
    answered = threading.Semaphore(1)

    def one_at_a_time() -> Iterator[pb.EncodeStreamRequest]:
        for frame in FRAMES[:5]:
            answered.acquire()
            yield frame_request(frame)

    count = 0
    for _ in service.stub.EncodeStream(one_at_a_time()):
        count += 1
        answered.release()
    assert count == 5


@pytest.mark.parametrize("place", [0, 1, 17, 100])
def test_a_faulty_frame_ends_the_stream_after_the_answers_before_it(
    service: ServiceProcess, place: int
) -> None:
    requests = [*map(frame_request, FRAMES[:place]), FAULTY_FRAME, frame_request(FRAMES[0])]
    indices: list[int] = []
    with pytest.raises(grpc.RpcError) as ended:
        for answer in service.stub.EncodeStream(iter(requests)):
            indices.append(answer.index)
    error = parse_error(ended.value)
    assert indices == list(range(place))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == [f"frame[{place}].raw.rgb"]


def test_a_faulty_latent_ends_the_stream_after_the_answers_before_it(
    service: ServiceProcess,
) -> None:
    requests = [latent_request([0.0] * 200)] * 40 + [latent_request([float("nan")] * 200)]
    indices: list[int] = []
    with pytest.raises(grpc.RpcError) as ended:
        for answer in service.stub.DecodeStream(iter(requests)):
            indices.append(answer.index)
    assert indices == list(range(40))
    assert parse_error(ended.value).fields == ["latent[40].floats.values[0]"]


ENCODE_SETTINGS = pb.EncodeStreamRequest(settings=pb.EncodeStreamSettings())
VALID = frame_request(FRAMES[0])
NO_MODEL = pb.EncodeStreamSettings(model=selector("nope"))


@pytest.mark.parametrize(
    ("requests", "code", "reason"),
    [
        ([], "INVALID_ARGUMENT", "EMPTY_STREAM"),
        ([ENCODE_SETTINGS], "INVALID_ARGUMENT", "EMPTY_STREAM"),
        ([pb.EncodeStreamRequest()], "INVALID_ARGUMENT", "FRAME_REQUIRED"),
        ([VALID, ENCODE_SETTINGS], "INVALID_ARGUMENT", "SETTINGS_NOT_FIRST"),
        ([ENCODE_SETTINGS, ENCODE_SETTINGS], "INVALID_ARGUMENT", "SETTINGS_NOT_FIRST"),
        ([pb.EncodeStreamRequest(settings=NO_MODEL), VALID], "NOT_FOUND", "MODEL_NOT_FOUND"),
    ],
)
def test_a_stream_that_opens_wrongly_is_refused(
    service: ServiceProcess, requests: list[pb.EncodeStreamRequest], code: str, reason: str
) -> None:
    error = error_of(lambda: list(service.stub.EncodeStream(iter(requests))))
    assert (error.code.name, error.reason) == (code, reason)


def test_an_empty_stream_of_latents_is_refused(service: ServiceProcess) -> None:
    error = error_of(lambda: list(service.stub.DecodeStream(iter([]))))
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "EMPTY_STREAM")


def test_a_stream_names_the_version_that_it_chose(service: ServiceProcess) -> None:
    settings = pb.DecodeStreamSettings(model=selector("pca", 1), format=pb.IMAGE_FORMAT_PNG)
    requests = [pb.DecodeStreamRequest(settings=settings), latent_request([0.0] * 200)]
    (answer,) = service.stub.DecodeStream(iter(requests))
    assert model_of(answer.model) == ("pca", 1)
    assert answer.frame.image.startswith(b"\x89PNG")


def test_a_caller_that_leaves_or_is_late_leaves_nothing_in_progress(
    service: ServiceProcess,
) -> None:
    sent = threading.Event()
    leave = threading.Event()

    def endless() -> Iterator[pb.EncodeStreamRequest]:
        while not leave.is_set():
            yield VALID
            sent.set()

    call = service.stub.EncodeStream(endless())
    next(call)
    call.cancel()
    late = service.stub.EncodeStream(endless(), timeout=0.5)
    assert error_of(lambda: list(late)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    leave.set()
    wait_for(
        lambda: service.metric("refilm_calls_running", grpc_method="EncodeStream") == 0,
        "the end of the calls' work",
    )
    wait_for(lambda: service.metric("refilm_frames_in_flight") == 0, "no frame in Triton")
    wait_for(
        lambda: (
            {"CANCELLED", "DEADLINE_EXCEEDED"}
            <= {
                line["code"]
                for line in service.log_lines("call")
                if line["method"] == "refilm.v1.AutoencoderService/EncodeStream"
            }
        ),
        "the log lines of both calls",
    )


def test_a_slow_reader_slows_the_sender(service: ServiceProcess) -> None:
    sent = 0
    others = service.metric("refilm_inference_batch_frames_sum", half="decode")

    def many() -> Iterator[pb.DecodeStreamRequest]:
        nonlocal sent
        for _ in range(200_000):
            sent += 1
            yield latent_request([0.0] * 200)

    call = service.stub.DecodeStream(many())
    next(call)
    # 200,000 pictures of 110 kB; what is not read is not made. Of the latents, gRPC itself takes
    # as many as its window has grown to: more than 16 MB of them were seen.
    before = -1
    while sent != before:
        before = sent
        threading.Event().wait(0.5)
    decoded = service.metric("refilm_inference_batch_frames_sum", half="decode") - others
    call.cancel()
    assert sent < 100_000
    assert decoded < 2_000


def test_more_single_calls_than_allowed_are_reported_to_come_back(
    tmp_path: Path, model_repository: Path
) -> None:
    settings = {"REFILM_MAX_CALLS_WAITING": "2"}
    with ServiceProcess(tmp_path, [model_repository], settings) as crowded:
        crowded.wait_until_serving()
        request = pb.EncodeRequest(frame=VALID.frame)

        def call(_: int) -> object:
            try:
                return crowded.stub.Encode(request)
            except grpc.RpcError as error:
                return error

        with ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(call, range(200)))
        errors = [parse_error(answer) for answer in answers if isinstance(answer, grpc.RpcError)]
        assert 0 < len(errors) < len(answers)
        for error in errors:
            assert (error.code, error.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
            )
            assert error.retry_seconds == 1.0
        assert len(crowded.stub.Encode(request).latent.floats.values) == 200
