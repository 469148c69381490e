"""What inference makes of a Triton that does not answer."""

import asyncio

import grpc
import numpy as np
import pytest

from service.errors import LateError
from service.inference import Inference, ModelVersion
from service.inference.admission import Admission
from service.inference.connection import connect

MODEL = ModelVersion("pca", 1, "sha256:" + "0" * 64, "pca", {})


async def test_a_deadline_that_comes_first_is_not_the_models_fault() -> None:
    # Whoever is listening takes connections and says nothing, as a Triton that hangs does.
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    admission = Admission(64, max_wait_seconds=1)
    inference = Inference(connect(f"127.0.0.1:{port}"), admission)
    with pytest.raises(LateError) as late:
        await inference.encode(MODEL, np.zeros((1, 144, 256, 3), np.uint8), within=0.2)
    assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert admission.in_flight == 0
    silent.close()
