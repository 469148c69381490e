"""Client of Refilm: frames to latents, latents to frames, and whole films through both.

    with refilm.Client("127.0.0.1:50051") as client:
        encoding = client.encode("picture.jpg")
        picture = client.decode(encoding.latent, model=encoding.model, format="png")
        client.reconstruct("film.mp4", "film.reconstruction.mp4", progress=print)
        film = client.upload_film("film.mp4", title="A film")
        found = client.search_frames("picture.jpg")

`refilm.aio.Client` is the same for asyncio.
"""

from refilm._client import Client
from refilm._errors import (
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OutOfRangeError,
    OverloadedError,
    PreconditionError,
    RefilmError,
    RequestError,
    ServiceError,
    UnavailableError,
)
from refilm._film_values import (
    DownloadFacts,
    DownloadUrls,
    Film,
    JobFault,
    ReconstructionJob,
    Rendition,
    RenditionSettings,
    StoredLatents,
    TransferProgress,
    Upload,
    UploadUrl,
)
from refilm._question_values import (
    ClipMatch,
    CroppedBars,
    DuplicatePair,
    FilmLatents,
    MatchResult,
    Moment,
    Passage,
    SearchHit,
    SearchResult,
)
from refilm._reconstruction import ReconstructionEvent
from refilm._values import (
    Encoding,
    FilmFacts,
    LatentBatch,
    Model,
    ModelIdentity,
    ModelVersion,
    OutputFacts,
    Picture,
    Progress,
    Reconstruction,
    ReconstructionFacts,
    SoundTrack,
    StageTimes,
    Timing,
)

__all__ = [
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

for _name in __all__:
    # Traces and types then show the name that users import.
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
