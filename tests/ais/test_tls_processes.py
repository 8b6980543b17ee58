"""The TLS matrix with worker processes, which make TLS contexts of their own: they trust, show and refuse the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastmpu
from fastmpu import mock
from fastmpu._upload import process_pool
from fastmpu.ais.tls import UnverifiedTlsWarning
from fastmpu.errors import CertificateError, PartError, TransportError, UploadError, UsageError
from fastmpu.mock.certificates import Authority
from fastmpu.mock.tls import Tls

DATA = os.urandom(25_000)
BAD = {
    "expired": "has expired",
    "not_yet_valid": "not valid yet",
    "wrong_host": "does not name that IP address",
    "wrong_ca": "not trusted: give ca_file=",
    "self_signed": "self-signed and not among those to trust",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=2, tls=authority.issue("127.0.0.1")) as cluster:
        cluster.bucket("bucket")
        yield cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.fixture(autouse=True)
def workers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process sends with a context of its own, which is what test_tls_matrix.py is about."""
    monkeypatch.setattr(process_pool, "SHARE", 0)


def send(client: fastmpu.Client, path: Path, **options: Any) -> fastmpu.Receipt:
    """Five parts by one worker."""
    given = {"part_size": 5000, "engine": "process", "processes": 1, "journal": "off", **options}
    return client.bucket("bucket").object("o").upload(path, **given)


def stored(cluster: mock.Cluster, client: fastmpu.Client, path: Path, **options: Any) -> bool:
    return send(client, path, **options).engine == "process" and cluster.bucket("bucket").read("o") == DATA


def warm_up(client: fastmpu.Client) -> None:
    """Connections to all targets: those that this process keeps are good, whatever comes; workers make new ones."""
    for number in range(12):
        client.bucket("bucket").object(f"warm-{number}").put(b"x").close()


@pytest.mark.parametrize("how", ["argument", "environment", "skip_verify"])
def test_a_good_certificate(
    secure: mock.Cluster, authority: Authority, path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A worker's environment has none of AIStore's variables: it is told."""
    if how == "argument":
        with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
            assert stored(secure, client, path)
    elif how == "environment":
        for name, value in secure.environment.items():
            monkeypatch.setenv(name, value)
        with fastmpu.Client() as client:
            assert stored(secure, client, path)
    else:
        with pytest.warns(UnverifiedTlsWarning) as told, fastmpu.Client(secure.endpoint, skip_verify=True) as client:
            assert stored(secure, client, path)
        assert len(told) == 1


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_of_a_target(secure: mock.Cluster, authority: Authority, path: Path, kind: str) -> None:
    """No byte of a part goes there from a worker, and the reason comes home."""
    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        warm_up(client)
        before = secure.stored_bytes
        for target in secure.targets:
            secure.set_tls(authority.issue("127.0.0.1", kind=kind), target.id)
        with pytest.raises(PartError, match=BAD[kind]) as caught:
            send(client, path)
    assert isinstance(caught.value.__cause__, CertificateError)
    assert secure.truth.attempts(op="part") == []
    assert secure.stored_bytes == before


@pytest.mark.parametrize("kind", ["good", "wrong_ca"])
def test_certificates_change_during_an_upload(
    secure: mock.Cluster, authority: Authority, path: Path, kind: str
) -> None:
    """Renewed ones go unnoticed. Bad ones end it for new connections, by a named error, and nothing is half stored."""
    swapped = threading.Event()

    def swap(event: fastmpu.ProgressEvent) -> None:
        if not swapped.is_set():
            secure.set_tls(authority.issue("127.0.0.1", kind=kind))
            swapped.set()

    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        warm_up(client)
        if kind == "good":
            assert stored(secure, client, path, part_size=500, max_concurrency=2, progress=swap)
            return
        with pytest.raises(PartError) as caught:
            send(client, path, part_size=500, max_concurrency=2, progress=swap)
    assert isinstance(caught.value.__cause__, CertificateError)
    assert "o" not in secure.bucket("bucket")


def test_handshakes_that_are_cut(secure: mock.Cluster, authority: Authority, path: Path) -> None:
    """Nothing was processed: tried again, in a worker as well."""
    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        for target in secure.targets:
            secure.cut_handshakes(3, target.id)
        assert stored(secure, client, path, retry=fastmpu.RetryPolicy(attempts=5, base=0.01, cap=0.01))


class TestClientCertificates:
    @pytest.fixture
    def strict(self, authority: Authority) -> Iterator[mock.Cluster]:
        with mock.Cluster(targets=2, tls=authority.issue("127.0.0.1", client_auth=4)) as cluster:
            cluster.bucket("bucket")
            yield cluster

    @staticmethod
    def pair(tls: Tls) -> tuple[Any, Any]:
        return tls.certificate, tls.key or tls.certificate

    def test_a_good_one(self, strict: mock.Cluster, authority: Authority, path: Path) -> None:
        own = self.pair(authority.issue("client"))
        with fastmpu.Client(strict.endpoint, ca_file=authority.ca_file, client_cert=own) as client:
            assert stored(strict, client, path)

    def test_targets_that_take_another_one_only(self, authority: Authority, path: Path, tmp_path: Path) -> None:
        """The proxy takes ours, the targets do not: whichever way TLS tells it, no part is stored."""
        other = Authority(tmp_path / "other")
        with mock.Cluster(targets=2, tls=authority.issue("127.0.0.1")) as cluster:
            cluster.bucket("bucket")
            own = self.pair(other.issue("client"))
            with fastmpu.Client(cluster.endpoint, ca_file=authority.ca_file, client_cert=own) as client:
                warm_up(client)
                for target in cluster.targets:
                    cluster.set_tls(authority.issue("127.0.0.1", client_auth=4), target.id)
                with pytest.raises((UploadError, TransportError)):
                    send(client, path, retry=fastmpu.RetryPolicy(attempts=2, base=0.0))
            assert cluster.truth.attempts(op="part") == []

    def test_a_password_from_a_function(self, strict: mock.Cluster, authority: Authority, path: Path) -> None:
        """It stays in this process, and that is said before anything is sent."""
        own = (*self.pair(authority.issue("client")), lambda: "a password that this key does not need")
        with (
            fastmpu.Client(strict.endpoint, ca_file=authority.ca_file, client_cert=own) as client,
            pytest.raises(UsageError, match="password comes from a function"),
        ):
            send(client, path)
        assert strict.truth.attempts() == []
