"""How a service is put together from groups of its methods."""

import pytest
from refilm.v1 import autoencoder_pb2, latents_pb2, library_pb2

from service.rpc.autoencoder_service import FrameCalls
from service.rpc.download_film import DownloadCalls
from service.rpc.find_duplicates import DuplicateCalls
from service.rpc.interpolate import InterpolateCalls
from service.rpc.latents_service import LatentsCalls
from service.rpc.list_films import FilmCalls
from service.rpc.list_models import ModelCalls
from service.rpc.match_clip import ClipCalls
from service.rpc.reconstruct_video import VideoCalls
from service.rpc.reconstructions import ReconstructionCalls
from service.rpc.search_frames import SearchCalls
from service.rpc.services import composed
from service.rpc.upload_film import UploadCalls

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


@pytest.mark.parametrize(
    ("file", "groups"),
    [
        (autoencoder_pb2, [ModelCalls, FrameCalls, VideoCalls]),
        (library_pb2, [UploadCalls, FilmCalls, DownloadCalls, ReconstructionCalls]),
        (
            latents_pb2,
            [LatentsCalls, SearchCalls, DuplicateCalls, ClipCalls, InterpolateCalls],
        ),
    ],
)
def test_the_groups_have_every_method_of_their_service(file: object, groups: list[type]) -> None:
    (service,) = file.DESCRIPTOR.services_by_name.values()  # type: ignore[attr-defined]

    # Classes instead of objects: all that is looked at is their methods' names.
    composed(service, *groups)
