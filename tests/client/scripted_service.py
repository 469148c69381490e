"""A gRPC service whose answers each test writes itself."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status
from refilm.v1 import autoencoder_pb2 as pb
from refilm.v1 import autoencoder_pb2_grpc

IDENTITY = pb.ModelIdentity(name="models/pca/versions/2", digest="sha256:" + "a" * 64)


def latent(values: Iterable[float]) -> pb.Latent:
    """Return a latent as a service answers with it."""
    return pb.Latent(floats=pb.FloatLatent(values=values))


def rich(code: grpc.StatusCode, message: str, *details: Message) -> grpc.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def _unimplemented(request: object, context: grpc.ServicerContext) -> object:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "not part of this test")


class ScriptedService(autoencoder_pb2_grpc.AutoencoderServiceServicer):
    """Each test says what a method does."""

    def __init__(self) -> None:
        self.address = ""
        self.requests: list[Any] = []
        self.cancelled = threading.Event()
        self.on_encode: Callable[..., object] = _unimplemented
        self.on_decode: Callable[..., object] = _unimplemented
        self.on_encode_stream: Callable[..., Any] = _unimplemented
        self.on_reconstruct: Callable[..., Any] = _unimplemented
        self.on_list: Callable[..., object] = _unimplemented

    def Encode(self, request, context):
        self.requests.append(request)
        return self.on_encode(request, context)

    def Decode(self, request, context):
        self.requests.append(request)
        return self.on_decode(request, context)

    def EncodeStream(self, request_iterator, context):
        context.add_callback(self.cancelled.set)
        yield from self.on_encode_stream(request_iterator, context)

    def DecodeStream(self, request_iterator, context):
        raise NotImplementedError

    def ReconstructVideo(self, request_iterator, context):
        context.add_callback(self.cancelled.set)
        yield from self.on_reconstruct(request_iterator, context)

    def ListModels(self, request, context):
        self.requests.append(request)
        return self.on_list(request, context)

    def GetModel(self, request, context):
        raise NotImplementedError
