"""Probes stored bytes without a sandboxed process: tests trust their films."""

import io
import threading

from film.errors import FilmError
from film.facts import FilmFacts
from film.read.film_reader import FilmReader
from service.library.film_source import SourceBytes
from service.library.upload_errors import UploadCancelledError
from service.library.upload_probe import film_refused


def probe_here(source: SourceBytes, cancelled: threading.Event) -> FilmFacts:
    """Probe in this process; a `service.library.upload_probe.Probe`."""
    if cancelled.is_set():
        raise UploadCancelledError
    data = io.BytesIO(source.read(0, source.size))
    try:
        with FilmReader(data) as reader:
            return reader.facts
    except FilmError as error:
        raise film_refused(error) from None
