"""What the client distribution shows to the world, and how it is made."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import refilm
import refilm.aio
from refilm._channel import OPTIONS
from refilm.v1 import autoencoder_pb2, latents_pb2, library_pb2

CLIENT = Path(refilm.__file__).parents[1]

PUBLIC_METHODS = {
    "cancel_reconstruction",
    "cancel_upload",
    "close",
    "complete_upload",
    "decode",
    "decode_stream",
    "delete_film",
    "download",
    "download_stream",
    "download_urls",
    "encode",
    "encode_stream",
    "export_latents",
    "film",
    "films",
    "find_duplicates",
    "frame",
    "health",
    "interpolate",
    "interpolate_film",
    "latents",
    "match_clip",
    "model",
    "models",
    "reconstruct",
    "reconstruct_stream",
    "reconstruction",
    "reconstructions",
    "search_frames",
    "start_reconstruction",
    "upload",
    "upload_film",
    "upload_url",
    "wait_for_reconstruction",
    "watch",
    "watch_stream",
}


def test_the_exported_names_are_these() -> None:
    assert refilm.__all__ == [
        "AlreadyExistsError",
        "CancelledError",
        "Client",
        "ClipMatch",
        "CroppedBars",
        "DataLossError",
        "DeadlineError",
        "DownloadFacts",
        "DownloadUrls",
        "DuplicatePair",
        "Encoding",
        "FieldViolation",
        "Film",
        "FilmFacts",
        "FilmLatents",
        "InternalError",
        "InvalidRequestError",
        "JobFault",
        "LatentBatch",
        "MatchResult",
        "Model",
        "ModelIdentity",
        "ModelVersion",
        "Moment",
        "NotFoundError",
        "OutOfRangeError",
        "OutputFacts",
        "OverloadedError",
        "Passage",
        "Picture",
        "PreconditionError",
        "Progress",
        "Reconstruction",
        "ReconstructionEvent",
        "ReconstructionFacts",
        "ReconstructionJob",
        "RefilmError",
        "Rendition",
        "RenditionSettings",
        "RequestError",
        "SearchHit",
        "SearchResult",
        "ServiceError",
        "SoundTrack",
        "StageTimes",
        "StoredLatents",
        "Timing",
        "TransferProgress",
        "UnavailableError",
        "Upload",
        "UploadUrl",
    ]
    assert refilm.aio.__all__ == ["Client"]
    assert repr(refilm.NotFoundError) == "<class 'refilm.NotFoundError'>"


@pytest.mark.parametrize("client", [refilm.Client, refilm.aio.Client])
def test_both_clients_have_these_methods_and_document_them(client: type) -> None:
    methods = {name for name in dir(client) if not name.startswith("_")}
    assert methods == PUBLIC_METHODS
    assert all(inspect.getdoc(getattr(client, name)) for name in methods)


def test_both_clients_take_the_same_arguments() -> None:
    for name in PUBLIC_METHODS:
        one, other = (
            inspect.signature(getattr(client, name)).parameters.values()
            for client in (refilm.Client, refilm.aio.Client)
        )
        assert [(p.name, p.kind, p.default) for p in one] == [
            (p.name, p.kind, p.default) for p in other
        ]


def test_the_synchronous_client_is_made_of_the_asynchronous_one(tmp_path: Path) -> None:
    tool = CLIENT / "tools" / "make_sync.py"
    subprocess.run([sys.executable, tool, tmp_path], check=True)
    fresh = {file.name: file.read_text() for file in (tmp_path / "refilm").iterdir()}
    assert "_client.py" in fresh
    committed = {name: (CLIENT / "refilm" / name).read_text() for name in fresh}
    assert committed == fresh, "the synchronous client is stale: run make proto"


def test_importing_the_client_imports_neither_numpy_nor_rich() -> None:
    code = "import sys, refilm.aio, refilm.cli; print({'numpy', 'rich'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout == "set()\n"


def test_what_is_tried_again_is_in_the_contract_and_streams_no_requests() -> None:
    methods = {
        (service.full_name, method.name): method
        for module in (autoencoder_pb2, library_pb2, latents_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    options = dict(OPTIONS)
    (config,) = json.loads(str(options["grpc.service_config"]))["methodConfig"]
    retried = {(name["service"], name["method"]) for name in config["name"]}
    assert not [name for name in retried if methods[name].client_streaming]
    # A second CancelUpload is NOT_FOUND, so a lost answer would turn into an error.
    left_out = {name for _, name in methods.keys() - retried}
    assert left_out == {
        "CancelUpload",
        "DecodeStream",
        "EncodeStream",
        "MatchClip",
        "ReconstructVideo",
        "UploadFilm",
    }
