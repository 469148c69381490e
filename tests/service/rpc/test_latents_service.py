"""LatentsService over a socket: latents listed and exported as they were stored."""

import io
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st
from refilm.v1 import autoencoder_pb2 as auto
from refilm.v1 import latents_pb2 as pb

from service.library import layout
from service.library.latents import Latents
from service.library.records import StoredModel
from tests.support.latents_library import Library
from tests.support.messages import model_of, numbers
from tests.support.messages import selector as chosen_model
from tests.support.service_process import wait_for
from tests.support.status import error_of
from tests.support.stored_latents import Rows, add_latents, model, random_rows

GONE = model("c", "forgotten", 7)
ROWS = random_rows(900, gaps=(1001, 1001, 500, 3000), origin=4004)


def selector(made_by: StoredModel) -> auto.ModelSelector:
    return auto.ModelSelector(digest=made_by.digest)


def listed(library: Library, **request) -> list[pb.ListLatentsResponse]:
    return list(library.stub.ListLatents(pb.ListLatentsRequest(**request)))


def joined(messages: list[pb.ListLatentsResponse], field: str) -> np.ndarray:
    found = [value for message in messages for value in getattr(message, field)]
    if field == "latents":
        found = numbers(found)
    elif field == "embeddings":
        found = [value for embedding in found for value in embedding.values]
    return np.array(found, np.int64 if field == "pts" else np.float32)


def duration(seconds: Fraction) -> Duration:
    whole = Duration()
    whole.FromNanoseconds(round(seconds * 10**9))
    return whole


def between(first: Fraction | None, last: Fraction | None) -> pb.TimeRange:
    ends = {"start_time": first, "end_time": last}
    return pb.TimeRange(**{k: duration(v) for k, v in ends.items() if v is not None})


@pytest.fixture(scope="module")
def film(library: Library) -> str:
    return library.film("listed", library.models[1], ROWS, part_rows=(240, 300, 1))


def test_all_latents_come_in_order_in_batches(library: Library, film: str) -> None:
    messages = listed(library, film=film)
    assert joined(messages, "pts").tolist() == ROWS.pts.tolist()
    assert np.array_equal(joined(messages, "latents").reshape(-1, 200), ROWS.latents)
    assert all(0 < len(message.pts) <= 256 for message in messages)
    assert not joined(messages, "embeddings").size
    made_by = library.models[1]
    for message in messages:
        assert model_of(message.model) == (made_by.name, made_by.version)
        assert message.model.digest == made_by.digest
        assert (message.time_base.numerator, message.time_base.denominator) == (1, 24000)


@settings(max_examples=20, deadline=None)
@given(
    one=st.none() | st.sampled_from(ROWS.seconds),
    other=st.none() | st.sampled_from(ROWS.seconds),
    stride=st.integers(0, 300),
    embeddings=st.booleans(),
)
def test_a_stretch_and_a_stride_are_a_slice(library, film, one, other, stride, embeddings) -> None:
    if one is not None and other is not None:
        one, other = sorted((one, other))
    messages = listed(
        library,
        film=film,
        range=between(one, other),
        stride=stride,
        include_embeddings=embeddings,
    )
    start = 0 if one is None else ROWS.seconds.index(one)
    stop = None if other is None else ROWS.seconds.index(other)
    wanted = slice(start, stop, stride or 1)
    assert joined(messages, "pts").tolist() == ROWS.pts[wanted].tolist()
    assert np.array_equal(joined(messages, "latents").reshape(-1, 200), ROWS.latents[wanted])
    found = joined(messages, "embeddings").reshape(-1, 200)
    assert np.array_equal(found, ROWS.embeddings[wanted] if embeddings else np.empty((0, 200)))


def exported(library: Library, **request) -> bytes:
    chunks = [
        answer.chunk for answer in library.stub.ExportLatents(pb.ExportLatentsRequest(**request))
    ]
    assert all(0 < len(chunk) <= 2**20 for chunk in chunks)
    return b"".join(chunks)


@pytest.mark.parametrize("form", [pb.LATENTS_FORMAT_UNSPECIFIED, pb.LATENTS_FORMAT_NPY])
def test_the_npy_export_is_what_numpy_saves(library: Library, film: str, form: int) -> None:
    data = exported(library, film=film, format=form)
    buffer = io.BytesIO()
    np.save(buffer, ROWS.latents)
    assert data == buffer.getvalue()
    loaded = np.load(io.BytesIO(data))
    assert loaded.dtype == np.float32 and np.array_equal(loaded, ROWS.latents)


def test_the_arrow_export_has_times_and_says_whose_it_is(library: Library, film: str) -> None:
    data = exported(library, film=film, format=pb.LATENTS_FORMAT_ARROW)
    with pa.ipc.open_stream(data) as reader:
        schema = reader.schema
        batches = list(reader)
    assert schema.field("pts").type == pa.int64()
    assert schema.field("seconds").type == pa.float64()
    assert schema.field("latent").type == pa.list_(pa.float32(), 200)
    assert schema.metadata == {
        b"film": film.encode(),
        b"model": b"pca",
        b"version": b"1",
        b"digest": library.models[1].digest.encode(),
        b"recipe": b"pca",
        b"time_base": b"1/24000",
    }
    assert [batch.num_rows for batch in batches] == [240, 300, 1, 240, 119]
    table = pa.Table.from_batches(batches)
    assert table["pts"].to_pylist() == ROWS.pts.tolist()
    assert table["seconds"].to_pylist() == [float(seconds) for seconds in ROWS.seconds]
    latents = np.stack(table["latent"].to_numpy())
    assert np.array_equal(latents, ROWS.latents)


def answering(library: Library, film: str, chosen: auto.ModelSelector | None = None) -> str:
    (message,) = listed(library, film=film, model=chosen)
    return message.model.digest


def test_without_a_selector_the_only_latents_of_the_film_answer(library: Library) -> None:
    few = random_rows(3)
    old = library.film("old", library.models[1], few)
    gone = library.film("gone", GONE, few)
    assert answering(library, old) == library.models[1].digest
    assert answering(library, gone) == GONE.digest
    both = library.film("both", library.models[1], few)
    add_latents(library.store, library.get("both"), library.models[2], few)
    assert answering(library, both) == library.models[2].digest
    assert answering(library, both, chosen_model(version=1)) == library.models[1].digest


def test_latents_of_a_model_that_is_gone_are_listed_by_their_digest(library: Library) -> None:
    both = library.film("of-both", library.models[1], random_rows(3))
    rows = random_rows(3, seed=5)
    add_latents(library.store, library.get("of-both"), GONE, rows)
    messages = listed(library, film=both, model=selector(GONE))
    assert np.array_equal(joined(messages, "latents").reshape(-1, 200), rows.latents)
    assert model_of(messages[0].model)[0] == "forgotten"


@pytest.mark.parametrize("method", ["ListLatents", "ExportLatents"])
def test_latents_of_another_model_are_refused_with_both_digests(
    library: Library, film: str, method: str
) -> None:
    request = getattr(pb, f"{method}Request")(film=film, model=chosen_model("pca"))
    error = error_of(lambda: list(getattr(library.stub, method)(request)))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "LATENTS_OF_OTHER_MODEL"
    assert library.models[1].digest in error.message
    assert library.models[2].digest in error.message
    assert error.resource == ("film", film)


@pytest.mark.parametrize("method", ["ListLatents", "ExportLatents"])
def test_a_film_without_latents_is_refused_with_advice(library: Library, method: str) -> None:
    bare = library.film(f"bare-{method.lower()}", None, random_rows(1))
    request = getattr(pb, f"{method}Request")(film=bare)
    error = error_of(lambda: list(getattr(library.stub, method)(request)))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "LATENTS_MISSING"
    assert "reconstruct it" in error.message


FAULTS: dict[str, tuple[dict[str, Any], str, str, Sequence[str]]] = {
    "no film": ({}, "INVALID_ARGUMENT", "NAME_REQUIRED", ["film"]),
    "no such name": ({"film": "listed"}, "INVALID_ARGUMENT", "INVALID_NAME", ["film"]),
    "no such film": ({"film": "films/nowhere"}, "NOT_FOUND", "FILM_NOT_FOUND", ()),
    "no digest": (
        {"film": "films/listed", "model": auto.ModelSelector(digest="sha256:../x")},
        "INVALID_ARGUMENT",
        "INVALID_DIGEST",
        ["model.digest"],
    ),
    "no such model": (
        {"film": "films/listed", "model": chosen_model("nobody")},
        "NOT_FOUND",
        "MODEL_NOT_FOUND",
        (),
    ),
    "before the film": (
        {"film": "films/listed", "range": between(Fraction(-1), None)},
        "OUT_OF_RANGE",
        "TIME_OUT_OF_RANGE",
        (),
    ),
    "after the film": (
        {"film": "films/listed", "range": between(Fraction(1000), None)},
        "OUT_OF_RANGE",
        "TIME_OUT_OF_RANGE",
        (),
    ),
    "backwards": (
        {"film": "films/listed", "range": between(Fraction(5), Fraction(4))},
        "INVALID_ARGUMENT",
        "INVALID_TIME_RANGE",
        ["range.end_time"],
    ),
    "no duration": (
        {"film": "films/listed", "range": pb.TimeRange(end_time=Duration(seconds=1, nanos=-1))},
        "INVALID_ARGUMENT",
        "INVALID_DURATION",
        ["range.end_time"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused(library: Library, film: str, fault: str) -> None:
    request, code, reason, fields = FAULTS[fault]
    error = error_of(lambda: listed(library, **request))
    assert (error.code.name, error.reason) == (code, reason)
    assert list(error.fields) == list(fields)
    if reason == "TIME_OUT_OF_RANGE":
        assert "lasts from 0 to 51.58125 s" in error.message


def test_an_unknown_format_is_refused(library: Library, film: str) -> None:
    error = error_of(lambda: exported(library, film=film, format=9))
    assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["format"])


def test_damaged_latents_end_the_stream_as_data_loss_without_a_key(library: Library) -> None:
    name = library.film("damaged", library.models[1], random_rows(600), part_rows=(100,))
    manifest = Latents(library.store).find("damaged", library.models[1].digest)
    library.store.delete([manifest.parts[4].key])
    received: list[Any] = []
    error = error_of(
        lambda: received.extend(library.stub.ListLatents(pb.ListLatentsRequest(film=name)))
    )
    assert (error.code, error.reason) == (grpc.StatusCode.DATA_LOSS, "STORED_DATA_DAMAGED")
    assert "part 5" in error.message and "/latents/" not in error.message


@pytest.fixture(scope="module")
def long_rows() -> Rows:
    return random_rows(40_000)


def test_a_caller_who_does_not_read_holds_the_stream_back(
    library: Library, long_rows: Rows
) -> None:
    name = library.film("long", library.models[1], long_rows, part_rows=(4000,))

    def sent() -> float:
        return library.service.metric("refilm_sent_bytes_total", grpc_method="ListLatents")

    before = sent()
    stream = library.stub.ListLatents(pb.ListLatentsRequest(film=name))
    first = next(stream)
    seen = [-1.0]

    def stands_still() -> bool:
        seen.append(sent())
        return seen[-1] == seen[-2] > before

    wait_for(stands_still, "a stream that nobody reads to stand still")
    assert seen[-1] - before < long_rows.latents.nbytes / 4
    values = [np.array(numbers(first.latents), np.float32)]
    values.extend(np.array(numbers(message.latents), np.float32) for message in stream)
    assert np.array_equal(np.concatenate(values).reshape(-1, 200), long_rows.latents)


def test_a_film_that_is_deleted_ends_its_streams(library: Library, long_rows: Rows) -> None:
    name = library.film("short-lived", library.models[1], long_rows, part_rows=(4000,))
    stream = library.stub.ListLatents(pb.ListLatentsRequest(film=name))
    next(stream)
    library.store.delete([layout.film_facts("short-lived")])
    received = 1

    def read_slowly() -> None:
        nonlocal received
        for _ in stream:
            received += 1
            time.sleep(0.02)  # A slow reader, on purpose: the stream must end under way.

    error = error_of(read_slowly)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "FILM_NOT_FOUND")
    assert received < len(long_rows.pts) / 256
    error = error_of(lambda: listed(library, film=name))
    assert error.code is grpc.StatusCode.NOT_FOUND
