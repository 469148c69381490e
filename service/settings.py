"""The service's settings: read once from `REFILM_…` environment variables, never changed."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from film.limits import FilmLimits, ReadLimits

GIB = 1024**3
_FILM = FilmLimits()

_BYTES_A_PIXEL = 24
"""The most that decoding a picture takes: a transparent WebP takes 19."""

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """The service's settings. Each is the environment variable `REFILM_` + its name."""

    model_config = SettingsConfigDict(env_prefix="REFILM_", frozen=True, extra="ignore")

    host: str = Field(
        default="127.0.0.1", description="Address to listen on, for gRPC and for metrics."
    )
    port: Port = Field(default=50051, description="gRPC port; 0 takes a free one.")
    metrics_port: Port = Field(default=9464, description="Prometheus port; 0 takes a free one.")
    address_file: Path | None = Field(
        default=None,
        description="A JSON file to write the addresses of gRPC, metrics and Triton to, once they "
        "are known.",
    )
    triton_address: str = Field(
        default="",
        description="gRPC address (host:port, or unix:PATH) of a Triton Inference Server. Empty: a "
        "local one is started from the wheel `nvidia-pytriton`.",
    )
    model_repositories: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(Path(".refilm/models"), Path("model_repository")),
        description="Model repositories of the local Triton, separated by commas. Missing ones "
        "are created.",
    )
    default_model: str = Field(
        default="",
        description="The model for requests that name none. Empty: the only one, if there is "
        "just one.",
    )
    models_poll_seconds: float = Field(
        default=2.0, gt=0, description="How often Triton is polled for ready model versions."
    )
    max_frames_in_flight: int = Field(
        default=256,
        ge=64,
        description="Frames and latents that may be in Triton at once, all calls together.",
    )
    max_calls_waiting: int = Field(
        default=256,
        ge=1,
        description="Encode and Decode calls in progress or waiting; more are refused with "
        "RESOURCE_EXHAUSTED.",
    )
    max_wait_seconds: float = Field(
        default=5.0,
        gt=0,
        description="How long an Encode or Decode call waits for admission to Triton before it "
        "is refused with RESOURCE_EXHAUSTED.",
    )
    picture_processes: int | None = Field(
        default=None,
        ge=1,
        description="Processes that decode, scale and encode single pictures. Empty: as many as "
        "there are cores, and at least 2.",
    )
    max_pictures_waiting: int = Field(
        default=512,
        ge=1,
        description="Pictures that may wait for such a process, all calls together; more are "
        "refused with RESOURCE_EXHAUSTED.",
    )
    picture_pixels: int = Field(
        default=1 << 26, ge=1, description="Width x height of a picture file that is decoded."
    )
    picture_seconds: float = Field(
        default=5.0,
        gt=0,
        description="CPU time limit of one picture; then its process is killed.",
    )
    picture_memory_bytes: int = Field(
        default=3 << 29,
        ge=1 << 28,
        description="Memory of a process that decodes pictures; at least 24 bytes for each of "
        "REFILM_PICTURE_PIXELS.",
    )
    max_reconstructions: int = Field(
        default=4,
        ge=1,
        description="Films in progress at once, callers' and the library's; more are refused.",
    )
    max_clips: int = Field(
        default=8, ge=1, description="Clips that MatchClip processes at once; more are refused."
    )
    max_searches: int = Field(
        default=32, ge=1, description="SearchFrames calls in progress at once; more are refused."
    )
    max_duplicate_searches: int = Field(
        default=2,
        ge=1,
        description="FindDuplicates calls in progress at once, a thread each; more are refused.",
    )
    max_interpolated_films: int = Field(
        default=8,
        ge=1,
        description="Films that Interpolate makes at once, a process each; more are refused.",
    )
    lease_seconds: float = Field(
        default=8.0,
        ge=1,
        description="Lease of a library film's reconstruction: after so long without a heartbeat "
        "of its replica, another one takes over.",
    )
    spool_directory: Path | None = Field(
        default=None,
        description="Where arriving films are spooled. Empty: the system's temporary folder.",
    )
    spool_film_bytes: int = Field(default=8 * GIB, ge=1, description="Largest film in bytes.")
    spool_total_bytes: int = Field(
        default=16 * GIB,
        ge=1,
        description="Bytes of all films that are being reconstructed, together.",
    )
    storage_threads: int = Field(
        default=32,
        ge=4,
        description="Requests to the library's store that run at once, a thread each; others wait.",
    )
    film_picture_pixels: int = Field(
        default=_FILM.read.picture_pixels,
        ge=1,
        description="Stored width x height of a film's pictures.",
    )
    film_pictures: int = Field(
        default=_FILM.read.pictures, ge=1, description="Pictures in one film."
    )
    film_decoded_bytes: int = Field(
        default=_FILM.read.decoded_bytes,
        ge=1,
        description="Bytes of all of a film's decoded pictures together.",
    )
    film_duration_seconds: int = Field(
        default=_FILM.read.duration_seconds, ge=1, description="Longest film in seconds."
    )
    film_packets_between_pictures: int = Field(
        default=_FILM.read.packets_between_pictures,
        ge=1,
        description="Packets of all other streams between two pictures of a film.",
    )
    film_bytes_between_pictures: int = Field(
        default=_FILM.read.bytes_between_pictures,
        ge=1,
        description="Bytes of those packets.",
    )
    film_cpu_seconds: int = Field(
        default=_FILM.cpu_seconds,
        ge=1,
        description="CPU time limit of one film's process.",
    )
    film_cpu_seconds_per_second: float = Field(
        default=_FILM.cpu_seconds_per_second,
        gt=0,
        description="CPU time limit for each second of film, besides that at its start.",
    )
    film_cpu_seconds_at_start: float = Field(
        default=_FILM.cpu_seconds_at_start,
        gt=0,
        description="CPU time that every film may take before its length counts.",
    )
    film_memory_bytes: int = Field(
        default=_FILM.memory_bytes, ge=1 << 26, description="Memory of one film's process."
    )
    film_output_bytes: int = Field(
        default=_FILM.output_bytes, ge=1, description="Output bytes of one film."
    )
    film_stall_seconds: float = Field(
        default=_FILM.stall_seconds,
        gt=0,
        description="Timeout of a film's process that neither answers nor computes.",
    )
    storage_directory: Path = Field(
        default=Path(".refilm/library"),
        description="The library's folder if no S3 endpoint is set; created if missing.",
    )
    s3_endpoint: str = Field(
        default="",
        description="The library's S3 server: a URL (`https://host:port`), or host:port. Empty: "
        "use the folder.",
    )
    s3_secure: bool | None = Field(
        default=None,
        description="TLS to an endpoint without `http://` or `https://`. Empty: with TLS.",
    )
    s3_ca_file: Path | None = Field(
        default=None,
        description="Certificates (PEM) to trust the S3 server by. Empty: `SSL_CERT_FILE`, or the "
        "usual authorities.",
    )
    s3_public_endpoint: str = Field(
        default="",
        description="The S3 server's endpoint in presigned URLs. Empty: REFILM_S3_ENDPOINT.",
    )
    s3_region: str = Field(default="us-east-1", min_length=1, description="Region of the bucket.")
    s3_path_style: bool = Field(
        default=True,
        description="The bucket in the path of URLs; false: in front of the host's name.",
    )
    s3_bucket: str = Field(default="refilm", min_length=1, description="The library's bucket.")
    s3_create_bucket: bool = Field(default=True, description="Create the bucket if it is missing.")
    s3_access_key: SecretStr | None = Field(default=None, description="Access key.")
    s3_access_key_file: Path | None = Field(
        default=None, description="A file that holds the access key, instead."
    )
    s3_secret_key: SecretStr | None = Field(default=None, description="Secret key.")
    s3_secret_key_file: Path | None = Field(
        default=None, description="A file that holds the secret key, instead."
    )
    s3_session_token: SecretStr | None = Field(
        default=None, description="Session token of temporary keys."
    )
    max_uploads: int = Field(
        default=16,
        ge=1,
        description="Uploads in progress at once; more are refused.",
    )
    upload_hours: float = Field(
        default=24.0,
        gt=0,
        description="Age after which interrupted uploads and other operations that nobody "
        "resumed are removed.",
    )
    idle_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Timeout of a call that streams a film and whose caller sends nothing.",
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="How long running calls may continue after SIGTERM."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: console on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum log level."
    )

    @field_validator("model_repositories", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator(
        "address_file",
        "picture_processes",
        "spool_directory",
        "s3_secure",
        "s3_ca_file",
        "s3_access_key",
        "s3_access_key_file",
        "s3_secret_key",
        "s3_secret_key_file",
        "s3_session_token",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        keys = {
            "REFILM_S3_ACCESS_KEY": (self.s3_access_key, self.s3_access_key_file),
            "REFILM_S3_SECRET_KEY": (self.s3_secret_key, self.s3_secret_key_file),
        }
        for name, (value, file) in keys.items():
            if value and file:
                raise ValueError(f"{name} and {name}_FILE are both set: set one of them")
            if self.s3_endpoint and not value and not file:
                raise ValueError(f"REFILM_S3_ENDPOINT needs {name} or {name}_FILE")
            if not self.s3_endpoint and (value or file):
                raise ValueError(
                    f"{name} is set and REFILM_S3_ENDPOINT is not: the library would be kept in a "
                    "folder"
                )
        if self.s3_secure is not None and "://" in self.s3_endpoint:
            raise ValueError(
                "REFILM_S3_SECURE is for an endpoint without http:// or https://, and this says it"
            )
        if self.s3_ca_file and not self.s3_url.startswith("https://"):
            raise ValueError("REFILM_S3_CA_FILE is for an endpoint with TLS, and this has none")
        return self

    @model_validator(mode="after")
    def _memory_for_pictures(self) -> Self:
        least = _BYTES_A_PIXEL * self.picture_pixels
        if self.picture_memory_bytes < least:
            raise ValueError(
                f"REFILM_PICTURE_MEMORY_BYTES must be at least {least}: {_BYTES_A_PIXEL} for each "
                "of REFILM_PICTURE_PIXELS, or sound pictures would not fit"
            )
        return self

    @field_validator("s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        url = urlsplit(value if "://" in value else f"https://{value}")
        if value and (
            url.scheme not in ("http", "https")
            or not url.hostname
            or url.username is not None
            or url.path.strip("/")
            or url.query
        ):
            raise ValueError("must be https://host:port, http://host:port or host:port")
        return value.rstrip("/")

    @property
    def film_limits(self) -> FilmLimits:
        """The limits on one film in a film process."""
        return FilmLimits(
            read=ReadLimits(
                picture_pixels=self.film_picture_pixels,
                pictures=self.film_pictures,
                decoded_bytes=self.film_decoded_bytes,
                duration_seconds=self.film_duration_seconds,
                packets_between_pictures=self.film_packets_between_pictures,
                bytes_between_pictures=self.film_bytes_between_pictures,
            ),
            cpu_seconds=self.film_cpu_seconds,
            cpu_seconds_per_second=self.film_cpu_seconds_per_second,
            cpu_seconds_at_start=self.film_cpu_seconds_at_start,
            memory_bytes=self.film_memory_bytes,
            output_bytes=self.film_output_bytes,
            stall_seconds=self.film_stall_seconds,
        )

    @property
    def s3_url(self) -> str:
        """The S3 server's URL with `http://` or `https://`; empty if none is set."""
        return self._with_scheme(self.s3_endpoint)

    @property
    def s3_public_url(self) -> str:
        """The same for the address that callers use."""
        return self._with_scheme(self.s3_public_endpoint)

    def _with_scheme(self, endpoint: str) -> str:
        if not endpoint or "://" in endpoint:
            return endpoint
        return f"{'http' if self.s3_secure is False else 'https'}://{endpoint}"
