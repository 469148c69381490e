"""How a channel is set up: sizes, keepalive, and what gRPC itself retries."""

from __future__ import annotations

import json

from refilm._wire import MAX_MESSAGE_BYTES

# gRPC itself retries these, response streams only until the first response; a server's
# grpc-retry-pushback-ms overrides the backoff. Calls that stream requests are never retried: half
# of the stream may have been consumed.
_RETRIED_METHODS = {
    "refilm.v1.AutoencoderService": ("Encode", "Decode", "ListModels", "GetModel"),
    "refilm.v1.LibraryService": (
        "GetUpload",
        "CreateUploadUrl",
        "CompleteUpload",
        "ListFilms",
        "GetFilm",
        "DownloadFilm",
        "CreateDownloadUrls",
        # These two are the same request as long as their request_id is the same.
        "DeleteFilm",
        "StartReconstruction",
        "GetReconstruction",
        "CancelReconstruction",
        "ListReconstructions",
        "WatchReconstruction",
        "GetFrame",
    ),
    "refilm.v1.LatentsService": (
        "ListLatents",
        "ExportLatents",
        "SearchFrames",
        "FindDuplicates",
        "Interpolate",
    ),
}
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in _RETRIED_METHODS.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}

OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A request larger than this buffer (256 KiB by default, less than most frames) would silently
    # never be retried.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # A connection that was lost silently is noticed within this time while calls run.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A restarted service is found within this time; gRPC's own backoff grows to minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
