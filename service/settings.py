"""The service's settings: read once from `REFILM_…` environment variables, never changed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

GIB = 1024**3

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Every setting of the service. Each is the environment variable `REFILM_` + its name."""

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
        description="gRPC address (host:port) of a Triton Inference Server. Empty: a local one is "
        "started from the wheel `nvidia-pytriton`.",
    )
    model_repositories: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(Path(".refilm/models"), Path("model_repository")),
        description="Model repositories of the local Triton, separated by commas. Those that do "
        "not exist are made, empty.",
    )
    default_model: str = Field(
        default="",
        description="The model that answers where a request names none. Empty: the only one there "
        "is.",
    )
    models_poll_seconds: float = Field(
        default=2.0, gt=0, description="How often Triton is asked which model versions are ready."
    )
    max_frames_in_flight: int = Field(
        default=256,
        ge=64,
        description="Frames and latents that may be in Triton at once, all calls together.",
    )
    max_calls_waiting: int = Field(
        default=256,
        ge=1,
        description="Encode and Decode calls that may be in work or wait; more are refused with "
        "RESOURCE_EXHAUSTED.",
    )
    max_wait_seconds: float = Field(
        default=5.0,
        gt=0,
        description="How long an Encode or Decode call waits for a place in front of Triton before "
        "it is refused with RESOURCE_EXHAUSTED.",
    )
    max_reconstructions: int = Field(
        default=4, ge=1, description="ReconstructVideo calls at once; more are refused."
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
    storage_directory: Path = Field(
        default=Path(".refilm/library"),
        description="The folder that keeps the library; made where it is missing.",
    )
    idle_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A ReconstructVideo call whose caller sends nothing for so long is ended.",
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="How long running calls may go on after SIGTERM."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: console on a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe lines that are logged."
    )

    @field_validator("model_repositories", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("address_file", "spool_directory", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value
