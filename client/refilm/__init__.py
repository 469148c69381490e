"""Client of Refilm: frames to latents, latents to frames, and whole films through both.

    with refilm.Client("127.0.0.1:50051") as client:
        encoding = client.encode("picture.jpg")
        picture = client.decode(encoding.latent, model=encoding.model, format="png")
        client.reconstruct("film.mp4", "film.reconstruction.mp4", progress=print)

`refilm.aio.Client` is the same for asyncio.
"""

from refilm._client import Client, ReconstructionEvent
from refilm._errors import (
    CancelledError,
    DataLossError,
    DeadlineError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PreconditionError,
    RefilmError,
    RequestError,
    ServiceError,
    UnavailableError,
)
from refilm._values import (
    Encoding,
    FilmFacts,
    LatentBatch,
    Model,
    ModelIdentity,
    ModelVersion,
    Picture,
    Progress,
    Reconstruction,
    SoundTrack,
    StageTimes,
    Timing,
)

__all__ = [
    "CancelledError",
    "Client",
    "DataLossError",
    "DeadlineError",
    "Encoding",
    "FieldViolation",
    "FilmFacts",
    "InternalError",
    "InvalidRequestError",
    "LatentBatch",
    "Model",
    "ModelIdentity",
    "ModelVersion",
    "NotFoundError",
    "OverloadedError",
    "Picture",
    "PreconditionError",
    "Progress",
    "Reconstruction",
    "ReconstructionEvent",
    "RefilmError",
    "RequestError",
    "ServiceError",
    "SoundTrack",
    "StageTimes",
    "Timing",
    "UnavailableError",
]

for _name in __all__:
    # What users see in traces and types is the name they import.
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
