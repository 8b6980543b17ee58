"""HTTPS: certificates good and bad, clients with and without one, how connections begin and end (protocol 1.5)."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from talk import Call, Reply, ask

from fastmpu.mock import Authority, Cluster, FaultError, Link, Tls, certificates
from fastmpu.mock.tls import TlsWire

HEALTH = "/v1/health"
MIB = 1 << 20


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    assert ca_file
    return ssl.create_default_context(cafile=str(ca_file))


@pytest.fixture(scope="module", params=[0, 1], ids=["ssl", "pyOpenSSL"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Modes 1 and 2 of client_auth have another library under them: whatever is told here holds for both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Authority, "issue", partialmethod(Authority.issue, client_auth=request.param))
        with Cluster(targets=2, tls="self-made", header_timeout=0.5, closing_delay=0.1) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def context(cluster: Cluster) -> ssl.SSLContext:
    return trusting(cluster.ca_file)


def send(cluster: Cluster, context: ssl.SSLContext, method: str, path: str, body: bytes = b"") -> Reply:
    """By the proxy to the target that it names."""
    first = ask(cluster.endpoint, method, path, body if method == "POST" else b"", context=context)
    assert first.status in (301, 307), first.body
    url = urllib.parse.urlsplit(first.headers["location"])
    assert url.scheme == "https"
    return ask(url.netloc, method, f"{url.path}?{url.query}", body, context=context)


def test_an_object_goes_and_comes_under_tls(cluster: Cluster, context: ssl.SSLContext, tmp_path: Path) -> None:
    assert cluster.endpoint.startswith("https://")
    data = bytes(range(256)) * (3 * MIB // 256)
    with Cluster(targets=1, tls="self-made", directory=tmp_path) as on_disk:
        for each, trust in ((cluster, context), (on_disk, trusting(on_disk.ca_file))):
            each.bucket("b")
            assert send(each, trust, "PUT", "/v1/objects/b/o", data).status == 200
            assert send(each, trust, "GET", "/v1/objects/b/o").body == data


def test_tls_1_2_and_newer_and_http_1_1_alone(cluster: Cluster, context: ssl.SSLContext) -> None:
    own = trusting(cluster.ca_file)
    own.set_alpn_protocols(["h2", "http/1.1"])
    own.maximum_version = ssl.TLSVersion.TLSv1_2
    with Call(cluster.endpoint, own) as call:
        assert isinstance(call.socket, ssl.SSLSocket)
        assert (call.socket.version(), call.socket.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")
        assert call.ask("GET", HEALTH).status == 200
    with Call(cluster.endpoint, context) as call:
        assert isinstance(call.socket, ssl.SSLSocket)
        assert call.socket.version() == "TLSv1.3"


def test_plain_http_to_an_https_port_is_told_so(cluster: Cluster) -> None:
    with Call(cluster.endpoint) as call:
        reply = call.ask("GET", HEALTH)
    assert (reply.status, reply.body) == (400, b"Client sent an HTTP request to an HTTPS server.\n")


def test_a_silent_client_is_not_waited_for(cluster: Cluster, context: ssl.SSLContext) -> None:
    with Call(cluster.endpoint) as call:
        assert call.ended()
    with Call(cluster.endpoint, context) as call:
        assert call.ended()  # after close_notify: the context of these tests takes a bare end for an error


def half_put(cluster: Cluster, context: ssl.SSLContext) -> tuple[str, bytes]:
    """Where to send a PUT, and its head and the first bytes of a body that does not come."""
    cluster.bucket("b")
    url = urllib.parse.urlsplit(ask(cluster.endpoint, "PUT", "/v1/objects/b/half", context=context).headers["location"])
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nnot all of it"
    return url.netloc, head.encode()


def test_a_bare_fin_in_a_body_is_answered(cluster: Cluster, context: ssl.SSLContext) -> None:
    to, data = half_put(cluster, context)
    with Call(to, context) as call:
        call.send(data)
        call.half_close()
        reply = call.reply()
    assert (reply.status, reply.message) == (500, "unexpected EOF")


def test_close_notify_in_a_body_is_answered(cluster: Cluster, context: ssl.SSLContext) -> None:
    to, data = half_put(cluster, context)
    # Python's own sockets cannot say close_notify and go on reading; a session in memory can.
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(come, go, server_hostname="127.0.0.1")
    with Call(to) as call:

        def step(act: Callable[[], object]) -> bool:
            """One try, and what it wrote goes out. False if it wants to read."""
            try:
                act()
            except ssl.SSLWantReadError:
                return False
            finally:
                call.send(go.read())
            return True

        def pump(act: Callable[[], object]) -> None:
            while not step(act):
                come.write(call.socket.recv(1 << 16))

        pump(session.do_handshake)
        step(lambda: session.write(data))
        assert not step(session.unwrap)
        answer = bytearray()
        while b"unexpected EOF" not in answer:
            pump(lambda: answer.extend(session.read(1 << 16)))
    assert answer.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("kind", certificates.KINDS[1:])
def test_a_bad_certificate_is_refused_by_a_client_that_checks(
    cluster: Cluster, context: ssl.SSLContext, kind: str
) -> None:
    target = cluster.targets[1]
    cluster.set_tls(kind, node=target.id)
    with pytest.raises(ssl.SSLCertVerificationError):
        Call(target.url, context)
    assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200
    cluster.set_tls("good", node=target.id)
    assert ask(target.url, "GET", HEALTH, context=context).status == 200


@pytest.mark.parametrize("kind", certificates.KINDS[1:])
def test_a_bad_certificate_is_on_the_fault_menu(cluster: Cluster, context: ssl.SSLContext, kind: str) -> None:
    """Reliability 3, Connect: by kind, at one node, so many times; then the good one is back."""
    target = cluster.targets[1]
    with Call(target.url, context) as before, cluster.faults.add(f"tls_bad_cert({kind}, where=target:1, times=2)"):
        for _ in range(2):
            assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200
            with pytest.raises(ssl.SSLCertVerificationError):
                Call(target.url, context)
        assert ask(target.url, "GET", HEALTH, context=context).status == 200
        assert before.ask("GET", HEALTH).status == 200
    assert [fired.node for fired in cluster.faults.log if fired.kind == "tls_bad_cert"][-2:] == ["target:1"] * 2


@pytest.mark.parametrize("mode", [1, 4])
def test_a_node_with_a_bad_certificate_asks_clients_for_the_same(tmp_path: Path, mode: int) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("client")
    context = trusting(authority.ca_file)
    context.load_cert_chain(own.certificate, own.key)
    careless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    with Cluster(targets=1, tls="self-made") as cluster:
        cluster.set_tls(authority.issue("127.0.0.1", client_auth=mode))
        with cluster.faults.add("tls_bad_cert(expired, where=proxy, times=2)"):
            with pytest.raises(ssl.SSLCertVerificationError):
                Call(cluster.endpoint, context)
            with contextlib.nullcontext() if mode == 1 else pytest.raises((ssl.SSLError, ConnectionError)):
                assert ask(cluster.endpoint, "GET", HEALTH, context=careless).status == 200
        assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200


def test_a_bad_certificate_needs_one_that_is_made() -> None:
    with pytest.raises(FaultError, match="self-made"):
        Cluster(targets=1, faults=["tls_bad_cert"])
    with Cluster(targets=1) as plain, pytest.raises(FaultError, match="self-made"):
        plain.faults.add("tls_bad_cert", kind="expired")
    with pytest.raises(FaultError, match="kind is one of expired, not_yet_valid, wrong_host, wrong_ca, self_signed"):
        Cluster(targets=1, tls="self-made", faults=["tls_bad_cert(good)"])


def test_a_connection_outlives_the_certificate_it_began_with(cluster: Cluster, context: ssl.SSLContext) -> None:
    with Call(cluster.endpoint, context) as call:
        assert call.ask("GET", HEALTH).status == 200
        cluster.set_tls("expired")
        assert call.ask("GET", HEALTH).status == 200
    cluster.set_tls("good")


def test_handshakes_are_cut(cluster: Cluster, context: ssl.SSLContext) -> None:
    cluster.cut_handshakes(2, node="proxy")
    for _ in range(2):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Call(cluster.endpoint, context)
    assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200


def test_certificates_of_ones_own(tmp_path: Path) -> None:
    ca = trustme.CA()
    pair = ca.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    key.write_bytes(pair.private_key_pem.bytes())
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with Cluster(targets=1, tls=Tls(certificate, key)) as cluster:
        assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200
        assert cluster.ca_file is None
        assert set(cluster.environment) == {"AIS_ENDPOINT"}
        with pytest.raises(ValueError, match="self-made"):
            cluster.set_tls("expired")


ASKED = {"none": "", "ours": "ours", "stranger": "stranger"}
UNASKED = dict.fromkeys(ASKED, "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("mode", "lets_in"),
    [
        (0, UNASKED),
        (1, ASKED),
        (2, {"ours": "ours", "stranger": "stranger"}),
        (3, {"none": "", "ours": "ours"}),
        (4, {"ours": "ours"}),
    ],
)
def test_client_certificates(
    tmp_path: Path, mode: int, lets_in: dict[str, str], version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is served, and whose certificate has reached the server."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    shown = {"none": None, "ours": authority.issue("client"), "stranger": other.issue("client", kind="self_signed")}
    names = {der_of(tls): who for who, tls in shown.items() if tls is not None} | {None: ""}
    came = []

    def serve(wire: TlsWire, head: bytes | None) -> bytes | None:
        if head is not None:  # at a connection's end, which may come late
            came.append(names[certificate_at(wire)])
        return head

    receive = TlsWire.receive_head
    monkeypatch.setattr(TlsWire, "receive_head", lambda wire, first: serve(wire, receive(wire, first=first)))
    entered = {}
    with Cluster(targets=1, tls=authority.issue("127.0.0.1", client_auth=mode)) as cluster:
        for who, tls in shown.items():
            context = trusting(cluster.ca_file)
            context.maximum_version = version
            if tls is not None:
                context.load_cert_chain(tls.certificate, tls.key)
            came.clear()
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                if ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200:
                    entered[who] = came[0]
    assert entered == lets_in


def der_of(tls: Tls) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(tls.certificate).read_text().partition("-----BEGIN PRIVATE")[0])


def certificate_at(wire: TlsWire) -> bytes | None:
    """The client's, as DER."""
    if isinstance(wire.socket, ssl.SSLSocket):
        return wire.socket.getpeercert(binary_form=True)
    certificate = wire.socket.connection.get_peer_certificate()
    return None if certificate is None else certificate.to_cryptography().public_bytes(Encoding.DER)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_goes_on_with_a_certificate_that_is_not_verified(
    tmp_path: Path, mode: int, version: ssl.TLSVersion
) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("client", kind="self_signed")
    with Cluster(targets=1, tls=authority.issue("127.0.0.1", client_auth=mode)) as cluster:
        context = trusting(cluster.ca_file)
        context.maximum_version = version
        context.load_cert_chain(own.certificate, own.key)
        port = int(cluster.endpoint.rpartition(":")[2])
        session = None
        for again in (False, True):
            with (
                socket.create_connection(("127.0.0.1", port), 10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as sock,
            ):
                sock.sendall(f"GET {HEALTH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
                assert sock.session_reused is again
                session = sock.session


def test_without_pyopenssl_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastmpu.mock.lenient_tls", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    authority = Authority(tmp_path)
    for mode in (1, 2):
        with pytest.raises(ValueError, match="pip install pyopenssl"):
            Cluster(tls=authority.issue("127.0.0.1", client_auth=mode))
    Cluster(tls=authority.issue("127.0.0.1", client_auth=4))


def test_bad_arguments(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("localhost")
    for tls, reason in (
        (Tls(pair.certificate, client_auth=5), "0, 1, 2, 3, 4"),
        (Tls(pair.certificate, client_auth=2), "client_ca"),
        (Tls(pair.certificate, client_auth=4), "client_ca"),
        ("made-up", "self-made"),
    ):
        with pytest.raises(ValueError, match=reason):
            Cluster(tls=tls)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        Cluster(tls=Tls(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="wrong_ca"):
        Authority(tmp_path).issue("x", kind="rotten")
    with Cluster(targets=1, tls="self-made") as cluster, pytest.raises(ValueError, match="proxy"):
        cluster.set_tls("good", node="nobody")
    with Cluster(targets=1) as cluster, pytest.raises(RuntimeError, match="plain HTTP"):
        cluster.cut_handshakes()


def test_without_cryptography_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.x509", None)
    with pytest.raises(ValueError, match="pip install cryptography"):
        Cluster(tls="self-made").start()


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_handshake_pays_its_round_trips(tmp_path: Path, mode: int, version: ssl.TLSVersion) -> None:
    tls = Authority(tmp_path).issue("127.0.0.1", client_auth=mode)
    with Cluster(targets=1, tls=tls, link=Link(round_trip=0.02)) as cluster:
        context = trusting(cluster.ca_file)
        context.maximum_version = version
        assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200


def test_rubbish_instead_of_a_handshake_leaves_the_node_alone(cluster: Cluster, context: ssl.SSLContext) -> None:
    for rubbish in (b"\x00" * 50, b"\x16\x03\x01\x02\x00" + b"\xff" * 600, b"x"):
        with Call(cluster.endpoint) as call:
            call.send(rubbish)
            with contextlib.suppress(OSError):
                call.socket.shutdown(socket.SHUT_WR)
                while call.socket.recv(1000):
                    pass
    assert ask(cluster.endpoint, "GET", HEALTH, context=context).status == 200
