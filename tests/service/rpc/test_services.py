"""How a service is put together from groups of its methods."""

import inspect
from collections.abc import AsyncIterator
from inspect import iscoroutinefunction
from types import ModuleType
from typing import get_args, get_origin

import pytest
from refilm.v1 import autoencoder_pb2, latents_pb2, library_pb2

from service.rpc.download_film import DownloadCalls
from service.rpc.encode_decode import FrameCalls
from service.rpc.find_duplicates import DuplicateCalls
from service.rpc.get_frame import FilmFrameCalls
from service.rpc.interpolate import InterpolateCalls
from service.rpc.list_films import FilmCalls
from service.rpc.list_latents import LatentsCalls
from service.rpc.list_models import ModelCalls
from service.rpc.match_clip import ClipCalls
from service.rpc.reconstruct_video import VideoCalls
from service.rpc.reconstructions import ReconstructionCalls
from service.rpc.search_frames import SearchCalls
from service.rpc.services import composed
from service.rpc.upload_film import UploadCalls
from service.rpc.watch_reconstruction import WatchCalls

AUTOENCODER = autoencoder_pb2.DESCRIPTOR.services_by_name["AutoencoderService"]


class Models:
    def ListModels(self) -> str:
        return "models"

    def GetModel(self) -> str:
        return "a model"

    def _private(self) -> None: ...


class Others:
    def Encode(self) -> str:
        return "latents"

    def Decode(self) -> None: ...

    def EncodeStream(self) -> None: ...

    def DecodeStream(self) -> None: ...

    def ReconstructVideo(self) -> None: ...


class Stray:
    def encode(self) -> None: ...


def test_a_method_is_that_of_the_group_that_has_it() -> None:
    service = composed(AUTOENCODER, Models(), Others())

    assert service.GetModel() == "a model"
    assert service.Encode() == "latents"
    assert not hasattr(service, "_private")


def test_a_method_that_no_group_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="no group has GetModel, ListModels of AutoencoderService"):
        composed(AUTOENCODER, Others())


def test_a_method_that_two_groups_have_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"AutoencoderService\.\w+Model\w* is in two groups"):
        composed(AUTOENCODER, Models(), Models(), Others())


def test_a_method_that_the_service_does_not_know_is_an_error() -> None:
    with pytest.raises(TypeError, match="AutoencoderService has no method encode"):
        composed(AUTOENCODER, Models(), Others(), Stray())


GROUPS = {
    autoencoder_pb2: [ModelCalls, FrameCalls, VideoCalls],
    library_pb2: [
        UploadCalls,
        FilmCalls,
        DownloadCalls,
        ReconstructionCalls,
        WatchCalls,
        FilmFrameCalls,
    ],
    latents_pb2: [LatentsCalls, SearchCalls, DuplicateCalls, ClipCalls, InterpolateCalls],
}


@pytest.mark.parametrize("file", GROUPS, ids=lambda file: file.__name__.rpartition(".")[2])
def test_the_groups_have_every_method_of_their_service_as_the_contract_has_it(
    file: ModuleType,
) -> None:
    (service,) = file.DESCRIPTOR.services_by_name.values()

    # Classes instead of objects: of both, the methods are looked at by name.
    methods = vars(composed(service, *GROUPS[file]))

    for name, method in service.methods_by_name.items():
        function = methods[name]
        # The generated base class would say so to mypy; a group has none.
        streams = inspect.isasyncgenfunction if method.server_streaming else iscoroutinefunction
        assert streams(function), name
        _, request, context = inspect.signature(function).parameters.values()
        types = f"pb.{method.input_type.name}, pb.{method.output_type.name}"
        assert context.annotation == f"Context[{types}]", name
        streamed = get_origin(request.annotation) is AsyncIterator
        assert streamed == method.client_streaming, name
        (taken,) = get_args(request.annotation) if streamed else (request.annotation,)
        assert taken.DESCRIPTOR is method.input_type, name
