"""What a bucket promises beyond the interface: keys, URLs, TLS, lost and cut answers."""

import io
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from operator import methodcaller
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from service.errors import UnavailableError
from service.storage.metered import MeteredStore
from service.storage.objects import ObjectNotFoundError, ObjectStore
from service.storage.s3.store import S3Store
from tests.support.object_stores import LibraryStore
from tests.support.s3_proxy import Proxy
from tests.support.s3_server import S3Access
from tests.support.service_process import wait_for

MIB = 2**20
HOUR = timedelta(hours=1)


@pytest.fixture
def store(bucket_store: LibraryStore) -> ObjectStore:
    store = bucket_store.open()
    store.prepare()
    return store


@pytest.fixture
def proxy(s3_server: S3Access) -> Iterator[Proxy]:
    with Proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(bucket_store: LibraryStore, store: ObjectStore, proxy: Proxy) -> ObjectStore:
    """The same bucket as `store`, by way of the proxy."""
    return bucket_store.open(REFILM_S3_ENDPOINT=proxy.endpoint)


def reason_of(ask: Callable[[], object]) -> str:
    with pytest.raises(UnavailableError) as error:
        ask()
    assert error.value.retry_after
    for secret in ("127.0.0.1", "films/", "localhost", "test-"):
        assert secret not in error.value.message
    return error.value.reason


def fetch(url: str, data: bytes | None = None) -> tuple[bytes, str]:
    request = urllib.request.Request(url, data, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers.get("Content-Disposition", "")


def test_a_signed_url_serves_one_object_for_a_time(store: ObjectStore) -> None:
    store.put("films/a/source", b"the film")
    store.put("films/b/source", b"another")
    url = store.presigned_get("films/a/source", HOUR, 'Ärger "1".mp4')
    data, disposition = fetch(url)
    assert data == b"the film"
    assert disposition == (
        "attachment; filename=\"_rger _1_.mp4\"; filename*=UTF-8''%C3%84rger%20%221%22.mp4"
    )

    for tampered in (
        url.replace("films/a/", "films/b/"),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
    ):
        assert tampered != url
        with pytest.raises(urllib.error.HTTPError) as error:
            fetch(tampered)
        assert error.value.code == 403
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(url, b"not mine")
    assert error.value.code == 403


def test_a_signed_url_takes_one_object(store: ObjectStore) -> None:
    url = store.presigned_put("uploads/u/source", HOUR)
    fetch(url, b"uploaded")
    assert store.get("uploads/u/source") == b"uploaded"
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(url.replace("uploads/u/", "uploads/v/"), b"elsewhere")
    assert error.value.code == 403
    assert [found.key for found in store.list("")] == ["uploads/u/source"]


def test_a_signed_url_expires(store: ObjectStore) -> None:
    store.put("films/a/source", b"the film")
    url = store.presigned_get("films/a/source", timedelta(seconds=1), "a.mp4")

    def expired() -> bool:
        try:
            fetch(url)
        except urllib.error.HTTPError as error:
            assert error.code == 403
            return True
        return False

    wait_for(expired, "the URL's end", 30)


def test_signed_urls_point_to_where_callers_reach_the_server(
    bucket_store: LibraryStore, store: ObjectStore, proxy: Proxy
) -> None:
    store.put("films/a/source", b"the film")
    outside = bucket_store.open(REFILM_S3_PUBLIC_ENDPOINT=proxy.endpoint)
    url = outside.presigned_get("films/a/source", HOUR, "a.mp4")
    assert urlsplit(url).netloc == proxy.address
    assert fetch(url)[0] == b"the film"


@pytest.mark.parametrize("name", ["ACCESS", "SECRET"])
def test_wrong_keys_are_refused(bucket_store: LibraryStore, store: ObjectStore, name: str) -> None:
    store.put("films/a/film.json", b"{}")
    stranger = bucket_store.open(**{f"REFILM_S3_{name}_KEY": "wrong"})
    for ask in (
        stranger.prepare,
        stranger.check,
        lambda: stranger.get("films/a/film.json"),
        lambda: stranger.info("films/a/film.json"),
        lambda: stranger.put("films/a/film.json", b""),
        lambda: stranger.create("films/b/film.json", b""),
        lambda: stranger.put("films/b/source", io.BytesIO(bytes(17 * MIB))),
        lambda: list(stranger.list("")),
        lambda: list(stranger.abandoned(HOUR)),
        lambda: stranger.delete(["films/a/film.json"]),
    ):
        assert reason_of(ask) == "STORE_REFUSED"
    assert store.get("films/a/film.json") == b"{}"


def test_keys_can_come_from_files(
    bucket_store: LibraryStore, store: ObjectStore, tmp_path: Path
) -> None:
    settings = dict(bucket_store.environment)
    for name in ("ACCESS", "SECRET"):
        file = tmp_path / name
        file.write_text(settings.pop(f"REFILM_S3_{name}_KEY") + "\n")
        settings[f"REFILM_S3_{name}_KEY_FILE"] = str(file)
    LibraryStore(settings).open().check()


def test_a_bucket_is_made_only_where_wanted(bucket_store: LibraryStore) -> None:
    careful = bucket_store.open(REFILM_S3_CREATE_BUCKET="false")
    assert reason_of(careful.prepare) == "STORE_REFUSED"
    assert reason_of(careful.check) == "STORE_REFUSED"
    assert reason_of(lambda: careful.info("films/a")) == "STORE_REFUSED"
    # Several replicas start at once.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: bucket_store.open().prepare(), range(4)))
    careful.prepare()
    assert list(careful.list("")) == []


def test_a_server_that_ignores_conditions_is_refused(
    store: ObjectStore,
    proxy: Proxy,
    through_proxy: ObjectStore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def forget_before_each_write(data: bytes) -> bytes:
        # As if the server had not looked: the condition itself is signed, and cannot be changed.
        if data.startswith(b"PUT"):
            store.delete(found.key for found in store.list(""))
        return data

    through_proxy.prepare()
    proxy.change_request = forget_before_each_write
    assert reason_of(through_proxy.prepare) == "STORE_REFUSED"
    assert "ignores If-None-Match" in capsys.readouterr().out
    assert list(store.list("")) == []


def test_a_create_whose_answer_was_lost_still_knows_that_it_won(
    store: ObjectStore, proxy: Proxy, through_proxy: ObjectStore
) -> None:
    retries = REGISTRY.get_sample_value("refilm_store_retries_total") or 0
    proxy.lost_answers = 1
    assert through_proxy.create("films/a/film.json", b"same") is True
    assert (REGISTRY.get_sample_value("refilm_store_retries_total") or 0) > retries
    proxy.lost_answers = 1
    assert through_proxy.create("films/a/film.json", b"same") is False
    assert store.get("films/a/film.json") == b"same"


def test_racing_creators_with_lost_answers_have_one_winner(
    store: ObjectStore, proxy: Proxy, bucket_store: LibraryStore
) -> None:
    for race in range(5):
        stores = [bucket_store.open(REFILM_S3_ENDPOINT=proxy.endpoint) for _ in range(6)]
        barrier = threading.Barrier(6)

        def create(
            one: ObjectStore, key: str = f"race/{race}", barrier: threading.Barrier = barrier
        ) -> bool:
            barrier.wait()
            return one.create(key, b"same bytes")

        proxy.lost_answers = 3
        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(create, stores)) == 1


def test_a_large_put_whose_last_answer_was_lost_is_done(
    store: ObjectStore, proxy: Proxy, through_proxy: ObjectStore
) -> None:
    def lose_completion(data: bytes) -> bytes:
        if data.startswith(b"POST") and b"uploadId=" in data.split(b"\r\n")[0]:
            proxy.change_request = lambda data: data
            proxy.lost_answers = 1
        return data

    proxy.change_request = lose_completion
    data = bytes(range(256)) * (40 * MIB // 256)
    through_proxy.put("films/a/source", io.BytesIO(data))
    assert proxy.lost_answers == 0
    assert store.get("films/a/source") == data
    assert list(store.abandoned(timedelta(seconds=-60))) == []


def test_a_read_that_is_cut_goes_on_where_it_was(
    store: ObjectStore, proxy: Proxy, through_proxy: ObjectStore
) -> None:
    data = bytes(range(256)) * (8 * MIB // 256)
    store.put("films/a/source", data)
    proxy.cuts = [3 * MIB, 100, MIB + 7]
    assert b"".join(through_proxy.read("films/a/source", 5)) == data[5:]
    assert proxy.cuts == []
    proxy.cuts = [3 * MIB // 2] * 7
    assert b"".join(through_proxy.read("films/a/source")) == data
    assert proxy.cuts == []
    proxy.cuts = [2000] * 100
    assert reason_of(lambda: list(through_proxy.read("films/a/source"))) == "STORE_UNAVAILABLE"


def test_a_cut_read_never_mixes_two_objects(
    store: ObjectStore, proxy: Proxy, through_proxy: ObjectStore
) -> None:
    store.put("lease", b"1" * (4 * MIB))
    proxy.cuts = [2 * MIB]
    pieces = through_proxy.read("lease")
    first = next(pieces)
    store.put("lease", b"2" * (4 * MIB))
    assert first == b"1" * len(first)
    assert reason_of(lambda: list(pieces)) == "STORE_UNAVAILABLE"


def test_an_upload_that_was_never_completed_is_found_and_freed(store: ObjectStore) -> None:
    assert isinstance(store, MeteredStore)
    inner = store._store
    assert isinstance(inner, S3Store)
    for key in ("films/a/source", "films/a/source", "films/b/source"):
        inner._client.request(methodcaller("_create_multipart_upload", inner._bucket, key, {}))
    found = list(store.abandoned(timedelta(seconds=-60)))
    assert len(set(found)) == 3
    assert list(store.abandoned(HOUR)) == []
    assert list(store.list("")) == []
    store.delete_abandoned(found[:2])
    assert list(store.abandoned(timedelta(seconds=-60))) == found[2:]
    store.delete_abandoned(found)
    assert list(store.abandoned(timedelta(seconds=-60))) == []


def test_a_compose_that_fails_leaves_no_upload_behind(store: ObjectStore) -> None:
    store.put("parts/0", bytes(5 * MIB))
    with pytest.raises(ObjectNotFoundError):
        store.compose("film", ["parts/0", "parts/1"])
    assert list(store.abandoned(timedelta(seconds=-60))) == []
    assert [found.key for found in store.list("")] == ["parts/0"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only itself vouches for, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=s3", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_tls_with_a_certificate_that_is_trusted_and_with_one_that_is_not(
    bucket_store: LibraryStore, s3_server: S3Access, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Proxy(s3_server.endpoint, context) as proxy:
        trusting = bucket_store.open(
            REFILM_S3_ENDPOINT=proxy.endpoint, REFILM_S3_CA_FILE=str(certificate[0])
        )
        trusting.prepare()
        data = bytes(range(256)) * (17 * MIB // 256)
        trusting.put("films/a/source", io.BytesIO(data))
        assert trusting.get("films/a/source") == data
        assert trusting.create("films/a/film.json", b"{}") is True
        assert trusting.create("films/a/film.json", b"{}") is False
        trusting.delete(["films/a/source"])
        assert [found.key for found in trusting.list("")] == ["films/a/film.json"]
        url = trusting.presigned_get("films/a/film.json", HOUR, "a.json")
        assert url.startswith(f"https://{proxy.address}/")

        # Without a scheme an endpoint is meant with TLS.
        stranger = bucket_store.open(REFILM_S3_ENDPOINT=proxy.address)
        assert reason_of(stranger.check) == "STORE_REFUSED"
        plain = bucket_store.open(REFILM_S3_ENDPOINT=proxy.address, REFILM_S3_SECURE="false")
        assert reason_of(plain.check) == "STORE_UNAVAILABLE"
