"""TLS, whole uploads: who is trusted, what is refused, and that a refusal says what to do (reliability 5)."""

from __future__ import annotations

import ssl
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary import CANARY
from interposer import Interposer, answer
from loopback_tls import old_server

import fastmpu
from fastmpu import mock
from fastmpu.ais.tls import UnverifiedTlsWarning
from fastmpu.errors import CertificateError, FastMPUError, PartError, RedirectRefusedError, TransportError
from fastmpu.mock.certificates import Authority
from fastmpu.mock.tls import Tls

DATA = bytes(range(256)) * 100
ENGINES = ("thread", "inline")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[mock.Cluster]:
    with mock.Cluster(targets=2, tls=authority.issue("127.0.0.1")) as cluster:
        yield cluster


def stored(client: fastmpu.Client, engine: str = "thread", **options: Any) -> bool:
    """Upload, in parts and whole, and read back."""
    bucket = client.bucket("bucket").create(exist_ok=True)
    obj = bucket.object("in-parts")
    obj.upload(DATA, part_size=5000, engine=engine, **options)
    bucket.object("whole").upload(DATA, multipart_threshold="1MiB")
    return obj.get_reader().read_all() == bucket.object("whole").get_reader().read_all() == DATA


@pytest.mark.parametrize("engine", ENGINES)
def test_a_good_certificate(secure: mock.Cluster, authority: Authority, engine: str) -> None:
    """By argument; the redirects lead to IP addresses, which the certificates name."""
    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        assert stored(client, engine)


def test_by_the_environment(secure: mock.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in secure.environment.items():
        monkeypatch.setenv(name, value)
    with fastmpu.Client() as client:
        assert stored(client)
    fastmpu.upload(DATA, "ais://bucket/by-a-client-of-its-own")


PATIENT = fastmpu.RetryPolicy(attempts=5, base=600.0, cap=600.0)
BAD = {
    "expired": "has expired",
    "not_yet_valid": "not valid yet",
    "wrong_host": "does not name that IP address",
    "wrong_ca": "not trusted: give ca_file=",
    "self_signed": "self-signed and not among those to trust",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_of_the_proxy(secure: mock.Cluster, authority: Authority, kind: str) -> None:
    """Refused before a byte of HTTP, and the error says why and what helps."""
    secure.set_tls(authority.issue("127.0.0.1", kind=kind))
    with (
        fastmpu.Client(secure.endpoint, ca_file=authority.ca_file, token=CANARY) as client,
        pytest.raises(CertificateError, match=BAD[kind]) as caught,
    ):
        client.bucket("bucket").create()
    assert not caught.value.sent


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_certificate_of_a_target(secure: mock.Cluster, authority: Authority, engine: str, kind: str) -> None:
    """Targets are held to the same rules: the redirect's address is checked, and no part goes there. It is final: what
    is wrong with a certificate does not pass by waiting, so the policy's minutes are not waited."""
    for target in secure.targets:
        secure.set_tls(authority.issue("127.0.0.1", kind=kind), target.id)
    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        obj = client.bucket("bucket").create().object("o")
        began = time.monotonic()
        with pytest.raises(CertificateError, match=BAD[kind]):
            obj.upload(DATA, part_size=5000, engine=engine, retry=PATIENT)
        assert time.monotonic() - began < 10
    assert secure.stored_bytes == 0


def test_a_certificate_for_a_name_only(authority: Authority) -> None:
    """The proxy is reached by its name, the targets by their addresses: the error explains SANs."""
    with mock.Cluster(targets=1, tls=authority.issue("localhost")) as cluster:
        url = cluster.endpoint.replace("127.0.0.1", "localhost")
        with fastmpu.Client(url, ca_file=authority.ca_file) as client:
            bucket = client.bucket("bucket").create()
            with pytest.raises(CertificateError, match="a SAN of type IP"):
                bucket.object("o").put(b"x")


@pytest.mark.parametrize("kind", BAD)
def test_bad_certificates_and_skip_verify(secure: mock.Cluster, authority: Authority, kind: str) -> None:
    """Whoever asks for it gets through, with a warning."""
    secure.set_tls(authority.issue("127.0.0.1", kind=kind))
    with pytest.warns(UnverifiedTlsWarning), fastmpu.Client(secure.endpoint, skip_verify=True) as client:
        assert stored(client)


def test_the_system_does_not_trust_it(secure: mock.Cluster) -> None:
    with fastmpu.Client(secure.endpoint) as client, pytest.raises(CertificateError, match="ca_file="):
        client.cluster_map()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("engine", ENGINES)
def test_versions(secure: mock.Cluster, authority: Authority, version: ssl.TLSVersion, engine: str) -> None:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.minimum_version = context.maximum_version = version
    with fastmpu.Client(secure.endpoint, ssl_context=context) as client:
        assert stored(client, engine)


def test_an_old_version_is_refused(authority: Authority) -> None:
    """TLS 1.1 is not spoken, whatever the system's settings say."""
    with (
        old_server(authority.issue("127.0.0.1")) as url,
        fastmpu.Client(url, ca_file=authority.ca_file) as client,
        pytest.raises(TransportError, match=r"1\.2 is the oldest"),
    ):
        client.cluster_map()


class TestClientCertificates:
    @pytest.fixture
    def strict(self, authority: Authority) -> Iterator[mock.Cluster]:
        with mock.Cluster(targets=2, tls=authority.issue("127.0.0.1", client_auth=4)) as cluster:
            yield cluster

    @staticmethod
    def pair(tls: Tls) -> tuple[Any, Any]:
        return tls.certificate, tls.key or tls.certificate

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_good_one(self, strict: mock.Cluster, authority: Authority, engine: str) -> None:
        own = self.pair(authority.issue("client"))
        with fastmpu.Client(strict.endpoint, ca_file=authority.ca_file, client_cert=own) as client:
            assert stored(client, engine)

    def test_by_the_environment(
        self, strict: mock.Cluster, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate, key = self.pair(authority.issue("client"))
        monkeypatch.setenv("AIS_CLIENT_CA", str(authority.ca_file))
        monkeypatch.setenv("AIS_CRT", str(certificate))
        monkeypatch.setenv("AIS_CRT_KEY", str(key))
        with fastmpu.Client(strict.endpoint) as client:
            assert stored(client)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_none(self, strict: mock.Cluster, authority: Authority, version: ssl.TLSVersion) -> None:
        """In TLS 1.3 the server says so only after our first bytes; the error is about certificates all the same."""
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        context.minimum_version = context.maximum_version = version
        with fastmpu.Client(strict.endpoint, ssl_context=context) as client, pytest.raises(TransportError) as caught:
            client.cluster_map()
        told = str(caught.value)
        assert "client_cert=" in told or "reset" in told.lower()
        if "alert" in told:  # the end of the connection may eat it: then it is like any other end, and may pass
            assert isinstance(caught.value, CertificateError)

    def test_one_of_another_authority(self, strict: mock.Cluster, authority: Authority) -> None:
        own = self.pair(authority.issue("client", kind="wrong_ca"))
        with (
            fastmpu.Client(strict.endpoint, ca_file=authority.ca_file, client_cert=own) as client,
            pytest.raises(TransportError),
        ):
            client.cluster_map()


class TestClientCertificatesThatNobodyVerifies:
    """AIStore's modes 1 (asked for) and 2 (any will do)."""

    @pytest.fixture(params=[1, 2])
    def lenient(self, request: pytest.FixtureRequest, authority: Authority) -> Iterator[mock.Cluster]:
        tls = authority.issue("127.0.0.1", client_auth=request.param)
        with mock.Cluster(targets=2, tls=tls) as cluster:
            yield cluster

    @staticmethod
    def client(cluster: mock.Cluster, authority: Authority, kind: str = "self_signed", **more: Any) -> fastmpu.Client:
        tls = authority.issue("client", kind=kind)
        own = (tls.certificate, tls.key or tls.certificate)
        return fastmpu.Client(cluster.endpoint, ca_file=authority.ca_file, client_cert=own, **more)

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("kind", ["good", "self_signed", "expired"])
    def test_any_will_do(self, lenient: mock.Cluster, authority: Authority, engine: str, kind: str) -> None:
        with self.client(lenient, authority, kind) as client:
            assert stored(client, engine)

    @pytest.mark.parametrize("lenient", [1], indirect=True)
    def test_none(self, lenient: mock.Cluster, authority: Authority) -> None:
        with fastmpu.Client(lenient.endpoint, ca_file=authority.ca_file) as client:
            assert stored(client)

    @pytest.mark.parametrize("lenient", [2], indirect=True)
    def test_none_where_one_is_required(self, lenient: mock.Cluster, authority: Authority) -> None:
        with (
            fastmpu.Client(lenient.endpoint, ca_file=authority.ca_file) as client,
            pytest.raises(TransportError, match=r"client_cert=|reset"),
        ):
            client.cluster_map()

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_late_answer_is_heard_behind_the_half_close(
        self, lenient: mock.Cluster, authority: Authority, engine: str
    ) -> None:
        lenient.faults.add("late_response(op=part, part=2, ms=1500)")
        with self.client(lenient, authority, timeouts=fastmpu.Timeouts(response=0.5, fence=20.0)) as client:
            obj = client.bucket("bucket").create().object("o")
            receipt = obj.upload(DATA, part_size=5000, engine=engine)
            assert (receipt.attempts, receipt.probes, receipt.restarts) == (len(receipt.parts), 0, 0)
            assert obj.get_reader().read_all() == DATA
        assert [fired.kind for fired in lenient.faults.log] == ["late_response"]

    @pytest.mark.parametrize("fault", ["lost_response(how=reset)", "lost_response(how=fin)", "fin_at(byte=3000)"])
    def test_a_part_without_an_answer(self, lenient: mock.Cluster, authority: Authority, fault: str) -> None:
        lenient.faults.add(fault.replace("(", "(op=part, part=2, "))
        with self.client(lenient, authority) as client:
            obj = client.bucket("bucket").create().object("o")
            obj.upload(DATA, part_size=5000)
            assert obj.get_reader().read_all() == DATA
        assert len(lenient.faults.log) == 1
        assert lenient.truth.violations() == []


def test_https_is_not_given_up_for_http(secure: mock.Cluster, authority: Authority) -> None:
    """A redirect to the same member without TLS is refused, before connecting: no token in the clear."""
    tap = Interposer(tls=ssl.create_default_context(cafile=str(authority.ca_file)))
    with fastmpu.Client(secure.endpoint, token=CANARY, transport=tap) as client:
        obj = client.bucket("bucket").create().object("o")
        plain = secure.targets[0].url.replace("https:", "http:")
        tap.on("locate", answer(307, Location=f"{plain}/v1/objects/bucket/o?pid=p&utm=u"))
        before = len(tap.wires)
        with pytest.raises(RedirectRefusedError, match="from https to http:"):
            obj.put(b"x")
        assert {wire.origin.partition(":")[0] for wire in tap.wires[before:]} == {"https"}


@pytest.mark.parametrize("way", ["http to https", "https to http"])
def test_the_wrong_scheme(secure: mock.Cluster, cluster: mock.Cluster, way: str) -> None:
    """Nothing is tried the other way round."""
    url = (
        secure.endpoint.replace("https:", "http:")
        if way == "http to https"
        else cluster.endpoint.replace("http:", "https:")
    )
    timeouts = fastmpu.Timeouts(connect=0.3)  # the mock, unlike AIStore, waits for the end of what is no request
    with (
        fastmpu.Client(url, timeouts=timeouts) as client,
        pytest.raises(FastMPUError, match=r"HTTPS server|is it http://|timed out while connecting"),
    ):
        client.cluster_map()


@pytest.mark.parametrize("kind", ["good", "wrong_ca"])
def test_certificates_change_during_an_upload(secure: mock.Cluster, authority: Authority, kind: str) -> None:
    """Renewed ones go unnoticed. Bad ones end it for new connections, by a named error, and nothing is half stored."""
    swapped = threading.Event()

    def swap(event: fastmpu.ProgressEvent) -> None:
        if not swapped.is_set():
            secure.set_tls(authority.issue("127.0.0.1", kind=kind))
            swapped.set()

    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        obj = client.bucket("bucket").create().object("o")
        try:
            obj.upload(DATA, part_size=500, max_concurrency=2, retry=PATIENT, progress=swap)
        except (PartError, CertificateError) as error:
            told = (type(error), type(error.__cause__))
            assert (kind, CertificateError in told) == ("wrong_ca", True)
            secure.set_tls(authority.issue("127.0.0.1"))
            assert not obj.exists()
        else:
            assert obj.get_reader().read_all() == DATA


@pytest.mark.parametrize("times", [1, 3])
def test_handshakes_that_are_cut(secure: mock.Cluster, authority: Authority, times: int) -> None:
    """Nothing was processed: tried again."""
    with fastmpu.Client(secure.endpoint, ca_file=authority.ca_file) as client:
        client.cluster_map()
        bucket = client.bucket("bucket").create()
        for target in secure.targets:
            secure.cut_handshakes(times, target.id)
        retry = fastmpu.RetryPolicy(attempts=5, base=0.01, cap=0.01)
        bucket.object("o").upload(DATA, part_size=5000, retry=retry)
        assert bucket.object("o").get_reader().read_all() == DATA


def test_warnings_are_told_for_every_client(secure: mock.Cluster) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            with fastmpu.Client(secure.endpoint, skip_verify=True) as client:
                client.cluster_map()
                client.cluster_map()
    assert len(told) == 2
