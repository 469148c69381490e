"""The gRPC services, each composed of groups of its methods, one module per group.

A group is an object with handlers for some of a service's methods, under their names and with
gRPC's signature; it raises `service.errors`, which the interceptor maps to statuses.
"""

from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from refilm.v1 import (
    autoencoder_pb2,
    autoencoder_pb2_grpc,
    latents_pb2,
    latents_pb2_grpc,
    library_pb2,
    library_pb2_grpc,
)

from service.parts import Parts
from service.rpc.download_film import DownloadCalls
from service.rpc.encode_decode import FrameCalls
from service.rpc.film_latents import FilmLatents
from service.rpc.find_duplicates import DuplicateCalls
from service.rpc.get_frame import FilmFrameCalls
from service.rpc.interpolate import InterpolateCalls
from service.rpc.list_films import FilmCalls
from service.rpc.list_latents import LatentsCalls
from service.rpc.list_models import ModelCalls
from service.rpc.match_clip import ClipCalls
from service.rpc.picture_calls import Pictures
from service.rpc.reconstruct_video import VideoCalls
from service.rpc.reconstructions import ReconstructionCalls
from service.rpc.search_frames import SearchCalls
from service.rpc.search_query import Queries
from service.rpc.upload_film import UploadCalls
from service.rpc.watch_reconstruction import WatchCalls
from service.search.match import ClipMatcher


def add_services(server: grpc.aio.Server, parts: Parts) -> None:
    """Register all services with a server."""
    pictures = Pictures(parts.processes.pictures)
    film_latents = FilmLatents(parts.models, parts.library)
    autoencoder_pb2_grpc.add_AutoencoderServiceServicer_to_server(
        _autoencoder_service(parts, pictures), server
    )
    library_pb2_grpc.add_LibraryServiceServicer_to_server(
        _library_service(parts, pictures, film_latents), server
    )
    latents_pb2_grpc.add_LatentsServiceServicer_to_server(
        _latents_service(parts, pictures, film_latents), server
    )


def _autoencoder_service(parts: Parts, pictures: Pictures) -> Any:
    return composed(
        autoencoder_pb2.DESCRIPTOR.services_by_name["AutoencoderService"],
        ModelCalls(parts.models),
        FrameCalls(
            parts.models,
            parts.inference,
            pictures,
            parts.limits.single_calls,
        ),
        VideoCalls(
            parts.models,
            parts.reconstructor,
            idle_seconds=parts.settings.idle_seconds,
        ),
    )


def _library_service(parts: Parts, pictures: Pictures, film_latents: FilmLatents) -> Any:
    return composed(
        library_pb2.DESCRIPTOR.services_by_name["LibraryService"],
        UploadCalls(parts.library, parts.limits.uploads, idle_seconds=parts.settings.idle_seconds),
        FilmCalls(parts.library),
        DownloadCalls(parts.library),
        ReconstructionCalls(parts.models, parts.registry, parts.jobs),
        WatchCalls(parts.models, parts.registry, parts.jobs.draining),
        FilmFrameCalls(
            parts.models,
            parts.inference,
            film_latents,
            parts.library,
            pictures,
        ),
    )


def _latents_service(parts: Parts, pictures: Pictures, film_latents: FilmLatents) -> Any:
    models, inference, library, search = parts.models, parts.inference, parts.library, parts.search
    queries = Queries(models, inference, library, film_latents, pictures)
    return composed(
        latents_pb2.DESCRIPTOR.services_by_name["LatentsService"],
        LatentsCalls(film_latents, library),
        SearchCalls(inference, library, queries, search, pictures, parts.limits.searches),
        DuplicateCalls(models, film_latents, search, parts.limits.duplicate_searches),
        ClipCalls(
            models,
            inference,
            search,
            ClipMatcher(search, library.films, library.latents, library.threads),
            film_latents,
            parts.processes.films,
            parts.spools,
            parts.limits.clips,
            clip_bytes=parts.settings.spool_film_bytes,
            idle_seconds=parts.settings.idle_seconds,
        ),
        InterpolateCalls(
            models,
            inference,
            film_latents,
            library.latents,
            parts.processes.films,
            parts.limits.interpolated_films,
            pictures,
        ),
    )


def composed(service: ServiceDescriptor, *groups: object) -> Any:
    """Return a servicer whose methods each come from the one group that has it.

    Raises TypeError for a method that no group has, that two have, or that the service lacks.
    """
    found: dict[str, object] = {}
    for group in groups:
        for name in dir(group):
            if name.startswith("_"):
                continue
            if name not in service.methods_by_name:
                raise TypeError(f"{service.name} has no method {name}")
            if name in found:
                raise TypeError(f"{service.name}.{name} is in two groups")
            found[name] = getattr(group, name)
    if missing := sorted(service.methods_by_name.keys() - found.keys()):
        raise TypeError(f"no group has {', '.join(missing)} of {service.name}")
    # Registration with a server only looks up the methods by name.
    return SimpleNamespace(**found)
