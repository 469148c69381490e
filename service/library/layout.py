"""The bucket's layout: every key that the library uses.

    films/<film>/film.json                   the commit point: a film exists when this does
    films/<film>/source                      its bytes as received
    films/<film>/upload.json                 which upload has, or had, the film's id
    films/<film>/latents/<digest>/
        manifest.json                        the commit point: every part with rows, times, digest
        <attempt>/000001.npy                 [rows, 200] float32, in presentation order
        <attempt>/000001.pts.npy             [rows] int64, in the film's time base
        <attempt>/000001.embeddings.npy      [rows, 200] float16, of unit length
        <attempt>/000001.detail.npy          [rows] float32, how much there is to see
        <attempt>/index.embeddings.npy       about one row per second, [M, 200] float16; also
                                             index.rows.npy, index.seconds.npy, index.detail.npy
    films/<film>/renditions/<rendition>/
        manifest.json                        the commit point: every segment with frames, digest
        <attempt>/init.mp4, 000001.m4s, ...
        <attempt>/000001.json                a committed segment: how to resume after it
        lease/000001                         which replica runs its job
    films/<film>/reconstructions/<id>/
        job.json, ended.json                 a started reconstruction, and its end
    deleted/<film>.json                      tombstone: the id is not reused
    uploads/<upload>/
        upload.json                          what the upload is
        parts/<offset>-<digest>              8 MiB from there; digest of all bytes up to its end
        source, taken/<attempt>              bytes uploaded by URL, and a copy nobody can change
        end.json                             how it ended: complete or dropped
    pending/<film>~<id>                      reconstructions that have not ended
    catalog/<digest>/<film>                  which films have latents for a model

Objects are immutable, except the lease. `<digest>` is the 64 hexadecimal digits of a model's
digest, `<rendition>` that and 16 digits of the settings' digest, joined by "-".
"""

import re

FILMS = "films/"
DELETED = "deleted/"
UPLOADS = "uploads/"
PENDING = "pending/"
CATALOG = "catalog/"

FILM_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
UPLOAD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def film_folder(film: str) -> str:
    """Return the prefix of everything stored for a film."""
    return f"{FILMS}{film}/"


def film_facts(film: str) -> str:
    """Return the key of film.json."""
    return f"{film_folder(film)}film.json"


def film_source(film: str) -> str:
    """Return the key of a film's bytes."""
    return f"{film_folder(film)}source"


def latents_folder(film: str, digest: str) -> str:
    """Return the prefix of a film's latents for one model; `digest` with or without "sha256:"."""
    return f"{film_folder(film)}latents/{hexadecimal(digest)}/"


def rendition_folder(film: str, rendition: str) -> str:
    """Return the prefix of a rendition."""
    return f"{film_folder(film)}renditions/{rendition}/"


def reconstruction_folder(film: str, reconstruction: str) -> str:
    """Return the prefix of a started reconstruction."""
    return f"{film_folder(film)}reconstructions/{reconstruction}/"


def deleted(film: str) -> str:
    """Return the key of a film's tombstone."""
    return f"{DELETED}{film}.json"


def upload_folder(upload: str) -> str:
    """Return the prefix of an upload."""
    return f"{UPLOADS}{upload}/"


def film_claim(film: str) -> str:
    """Return the key that records which upload has a film's id."""
    return f"{film_folder(film)}upload.json"


def upload_record(upload: str) -> str:
    """Return the key of an upload's record."""
    return f"{upload_folder(upload)}upload.json"


def upload_parts(upload: str) -> str:
    """Return the prefix of an upload's parts."""
    return f"{upload_folder(upload)}parts/"


def upload_part(upload: str, offset: int, digest: str) -> str:
    """Return the key of a part; `digest` is of all the film's bytes up to the part's end."""
    return f"{upload_parts(upload)}{offset:020d}-{hexadecimal(digest)}"


def upload_source(upload: str) -> str:
    """Return the key that an upload URL writes to."""
    return f"{upload_folder(upload)}source"


def upload_taken(upload: str, attempt: str) -> str:
    """Return the key of a copy of the upload's source."""
    return f"{upload_folder(upload)}taken/{attempt}"


def upload_end(upload: str) -> str:
    """Return the key of an upload's end."""
    return f"{upload_folder(upload)}end.json"


def attempt_of(key: str) -> str:
    """Return the attempt that wrote a file of latents or of a rendition."""
    return key.split("/")[-2]


def pending(film: str, reconstruction: str) -> str:
    """Return the key that marks a reconstruction as not ended."""
    return f"{PENDING}{film}~{reconstruction}"


def catalog_folder(digest: str) -> str:
    """Return the prefix under which the films with latents for a model are listed."""
    return f"{CATALOG}{hexadecimal(digest)}/"


def catalog(digest: str, film: str) -> str:
    """Return the key that records that a film has latents for a model."""
    return f"{catalog_folder(digest)}{film}"


def hexadecimal(digest: str) -> str:
    """Return a digest's 64 hexadecimal digits."""
    return digest.removeprefix("sha256:")
