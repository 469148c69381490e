"""Records: small frozen dataclasses stored as JSON.

The names and the order of a record's fields are those in its JSON, and its bytes must never change:
other versions of the service read them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, TypeAlias, TypeVar

from pydantic import AfterValidator, PlainSerializer, PlainValidator, TypeAdapter, ValidationInfo
from pydantic_core.core_schema import SerializationInfo

from film.output import OutputSettings, settings_from_json, settings_to_json
from film.segments import ResumePoint

VERSION = 1
"""The version of all versioned records; newer ones are not read."""

Record = TypeVar("Record")


class UnreadableRecordError(ValueError):
    """A stored record is invalid: "cannot be read", and why."""


def _below(key: str, info: SerializationInfo) -> str:
    folder = info.context or ""
    if not key.startswith(folder):
        raise ValueError(f"not a key in {folder}: {key}")
    return key.removeprefix(folder)


def _whole(key: str, info: ValidationInfo) -> str:
    return f"{info.context or ''}{key}"


Key: TypeAlias = Annotated[str, AfterValidator(_whole), PlainSerializer(_below)]
"""An object's key; relative to the folder in the JSON of a record that belongs to one."""

Moment: TypeAlias = Annotated[
    datetime, PlainValidator(datetime.fromisoformat), PlainSerializer(datetime.isoformat)
]
"""A timestamp; aware, UTC."""

StoredSettings: TypeAlias = Annotated[
    OutputSettings, PlainValidator(settings_from_json), PlainSerializer(settings_to_json)
]
"""`film` defines how its settings and its resume points become JSON."""

StoredResumePoint: TypeAlias = Annotated[
    ResumePoint, PlainValidator(ResumePoint.from_json), PlainSerializer(ResumePoint.to_json)
]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The model version of stored data; it may no longer be in Triton."""

    name: str
    version: int
    digest: str
    """"sha256:" and 64 hexadecimal digits: its identity."""
    recipe: str


class RecordFormat(Generic[Record]):
    """The stored format of one kind of record."""

    def __init__(
        self, kind: type[Record], *, in_key: Iterable[str] = (), versioned: bool = True
    ) -> None:
        """Describe a dataclass.

        Args:
            kind: the dataclass, or a NamedTuple.
            in_key: its fields that are in the object's key, not in its JSON.
            versioned: whether its JSON begins with a version.
        """
        self._adapter = TypeAdapter(kind)
        self._in_key = set(in_key)
        self._versioned = versioned

    def encode(self, record: Record, *, folder: str = "") -> bytes:
        """Return a record's stored form; raises ValueError if a key of it is not in `folder`."""
        fields = self._adapter.dump_python(
            record, mode="json", by_alias=True, exclude=self._in_key, context=folder
        )
        if self._versioned:
            fields = {"version": VERSION, **fields}
        return json.dumps(fields).encode()

    def decode(self, data: bytes | str, *, folder: str = "", **known: object) -> Record:
        """Parse a stored record; `known` fields override its JSON.

        Raises UnreadableRecordError.
        """
        try:
            found = json.loads(data)
            if self._versioned and found["version"] != VERSION:
                raise UnreadableRecordError("cannot be read by this version of the service")
            return self._adapter.validate_python(found | known, by_alias=True, context=folder)
        except UnreadableRecordError:
            raise
        except (KeyError, TypeError, ValueError):
            raise UnreadableRecordError("cannot be read") from None
