"""The service's Prometheus metrics. Every metric is here and in docs/operations.md."""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

_CALL = ("grpc_type", "grpc_service", "grpc_method")
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

CALLS_STARTED = Counter("grpc_server_started_total", "RPCs started.", _CALL)
CALLS_HANDLED = Counter(
    "grpc_server_handled_total", "RPCs completed, by status code.", (*_CALL, "grpc_code")
)
CALL_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "How long RPCs took, from their start to their status.",
    _CALL,
    buckets=_SECONDS,
)
CALLS_RUNNING = Gauge("refilm_calls_running", "RPCs in progress.", ("grpc_method",))

FRAMES_ENCODED = Counter(
    "refilm_frames_encoded_total", "Frames that Triton encoded.", ("model", "version")
)
FRAMES_DECODED = Counter(
    "refilm_frames_decoded_total", "Latents that Triton decoded.", ("model", "version")
)
FRAMES_RECONSTRUCTED = Counter(
    "refilm_frames_reconstructed_total",
    "Frames of films written to a reconstruction.",
    ("model", "version"),
)
RECEIVED_BYTES = Counter(
    "refilm_received_bytes_total", "Bytes of request messages.", ("grpc_method",)
)
SENT_BYTES = Counter("refilm_sent_bytes_total", "Bytes of response messages.", ("grpc_method",))

PICTURES_REFUSED = Counter(
    "refilm_pictures_refused_total",
    "Pictures that were not read or written: damaged ones, those over a limit, and others.",
    ("reason",),
)
PICTURES_WAITING = Gauge("refilm_pictures_waiting", "Pictures that wait for a process.")
PICTURE_PROCESSES_REPLACED = Counter(
    "refilm_picture_processes_replaced_total",
    "Picture processes that were killed or crashed, and replaced.",
)

FRAMES_IN_FLIGHT = Gauge("refilm_frames_in_flight", "Frames and latents in Triton now.")
FRAMES_WAITING = Gauge(
    "refilm_frames_waiting", "Frames and latents that wait for admission to Triton."
)
RECONSTRUCTION_QUEUE = Gauge(
    "refilm_reconstruction_queue_frames",
    "Frames waiting for a stage, all reconstructions together.",
    ("stage",),
)
RECONSTRUCTIONS_RUNNING = Gauge("refilm_reconstructions_running", "Films in progress.")
RENDITION_JOBS_RUNNING = Gauge(
    "refilm_rendition_jobs_running", "Jobs on library films in this replica."
)
SEGMENTS = Counter(
    "refilm_segments_total",
    "Segments of library films: made here, or reused by a resumed job.",
    ("model", "version", "kind"),
)
JOBS = Gauge(
    "refilm_jobs",
    "Started reconstructions that have not ended, as this replica last saw them: queued, running "
    "here.",
    ("state",),
)
JOBS_ENDED = Counter(
    "refilm_jobs_ended_total",
    "Started reconstructions that this replica has ended: succeeded, failed, cancelled.",
    ("state",),
)
STAGE_SECONDS = Counter(
    "refilm_reconstruction_stage_seconds_total",
    "How long the stages of reconstructions (read, encode, decode, write) were busy.",
    ("stage",),
)
SPOOL_BYTES = Gauge("refilm_spool_bytes", "Film bytes in the spool.")

INFERENCE_QUEUE_SECONDS = Histogram(
    "refilm_inference_queue_seconds",
    "How long batches waited for admission to Triton.",
    ("half",),
    buckets=_SECONDS,
)
INFERENCE_COMPUTE_SECONDS = Histogram(
    "refilm_inference_compute_seconds",
    "How long batches were in Triton.",
    ("half",),
    buckets=_SECONDS,
)
INFERENCE_BATCH_FRAMES = Histogram(
    "refilm_inference_batch_frames",
    "Frames or latents in a request to Triton.",
    ("half",),
    buckets=(1, 2, 4, 8, 16, 32, 64),
)

TRITON_UP = Gauge("refilm_triton_up", "1 while Triton answers.")
TRITON_RESTARTS = Counter("refilm_triton_restarts_total", "Restarts of the local Triton.")
MODEL_VERSION_READY = Gauge(
    "refilm_model_version_ready",
    "1 for each ready model version.",
    ("model", "version", "digest", "recipe"),
)

UPLOADS_RUNNING = Gauge("refilm_uploads_running", "Uploads in progress.")
UPLOAD_BYTES = Counter("refilm_upload_bytes_total", "Bytes of uploaded films.")
DOWNLOAD_BYTES = Counter(
    "refilm_download_bytes_total", "Bytes of films, renditions and latents that were downloaded."
)
LEFTOVERS = Counter(
    "refilm_leftovers_total", "Leftovers of interrupted operations that were removed.", ("kind",)
)

STORE_UP = Gauge("refilm_store_up", "1 while the library's store answers.")
STORE_SECONDS = Histogram(
    "refilm_store_seconds",
    "How long operations of the library's store took, retries and streaming included.",
    ("operation",),
    buckets=_SECONDS,
)
STORE_ERRORS = Counter(
    "refilm_store_errors_total",
    "Operations of the library's store that failed after all retries.",
    ("operation", "reason"),
)
STORE_RETRIES = Counter("refilm_store_retries_total", "Retried requests to the S3 server.")

SEARCH_SECONDS = Histogram(
    "refilm_search_seconds",
    "How long searches took, from request to response.",
    ("method",),
    buckets=_SECONDS,
)
INDEX_ROWS = Gauge(
    "refilm_index_rows",
    "Rows in the index of a model's latents, about one a second of each film.",
    ("model", "version"),
)
INDEX_FILMS = Gauge(
    "refilm_index_films", "Films in the index of a model's latents.", ("model", "version")
)
INDEX_BUILD_SECONDS = Histogram(
    "refilm_index_build_seconds",
    "How long an index took to be trained for the rows it then had.",
    buckets=_SECONDS,
)


def names() -> set[str]:
    """Return the names of all metrics in this module as Prometheus scrapes them."""
    return {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith(("grpc_server_", "refilm_"))
    }
