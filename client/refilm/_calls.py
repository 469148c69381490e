# Made of refilm/aio/_calls.py by `make proto`: edit that.
"""What every part of the client uses."""

from __future__ import annotations

from refilm._transport import Transport
from refilm.v1.autoencoder_pb2_grpc import AutoencoderServiceStub
from refilm.v1.latents_pb2_grpc import LatentsServiceStub
from refilm.v1.library_pb2_grpc import LibraryServiceStub


class Calls:
    """One connection, and the contract's three services over it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._autoencoder = AutoencoderServiceStub(transport.channel)
        self._library = LibraryServiceStub(transport.channel)
        self._latents = LatentsServiceStub(transport.channel)
