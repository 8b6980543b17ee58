"""TLS and clocks by argument and by AIStore's environment names: arguments win, and what is wrong is said at once."""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import fastmpu
from fastmpu._transport import Reply, ScriptedStream, ZeroCopyTransport
from fastmpu.ais.tls import Tls, UnverifiedTlsWarning
from fastmpu.errors import CertificateError, TransportError, UsageError

URL = "https://127.0.0.1:1"
NAMES = ("AIS_CLIENT_CA", "AIS_CRT", "AIS_CRT_KEY", "AIS_SKIP_VERIFY_CRT", "AIS_SKIP_VERIFY")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "AIS_CONNECT_TIMEOUT", "AIS_READ_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


class Files:
    """Good and bad ones."""

    def __init__(self, directory: Path):
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.certificate, self.key = directory / "client.pem", directory / "client.key"
        mine = authority.issue_cert("client")
        mine.cert_chain_pems[0].write_to_path(self.certificate)
        mine.private_key_pem.write_to_path(self.key)
        self.other_key = directory / "other.key"
        authority.issue_cert("other").private_key_pem.write_to_path(self.other_key)
        self.locked_key = directory / "locked.key"
        self.locked_key.write_bytes(encrypted(mine.private_key_pem.bytes(), b"opensesame"))
        self.empty, self.noise = directory / "empty", directory / "noise"
        self.empty.write_bytes(b"")
        self.noise.write_bytes(b"\x00not a certificate" * 10)
        self.missing = directory / "missing.pem"


def encrypted(pem: bytes, password: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(pem, None)
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(password))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


def context_of(**arguments: Any) -> ssl.SSLContext:
    given = {"ca_file": None, "client_cert": None, "skip_verify": None, **arguments}
    return Tls.of(**given).context()


def test_by_default_everything_is_verified() -> None:
    context = context_of()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_ca_file_replaces_the_system(files: Files) -> None:
    """One authority is trusted, not that one as well; a directory of hashed names will do, too."""
    assert len(context_of(ca_file=files.ca).get_ca_certs()) == 1
    assert context_of(ca_file=str(files.ca)).verify_mode is ssl.CERT_REQUIRED
    assert context_of(ca_file=files.ca.parent).verify_mode is ssl.CERT_REQUIRED


def test_the_environment_counts_where_no_argument_is(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIS_CLIENT_CA", str(files.ca))
    monkeypatch.setenv("AIS_CRT", str(files.certificate))
    monkeypatch.setenv("AIS_CRT_KEY", str(files.key))
    assert Tls.of(None, None, None) == Tls(str(files.ca), (str(files.certificate), str(files.key)))
    assert Tls.of("other.pem", ("c", "k"), None) == Tls("other.pem", ("c", "k"))
    context_of()


@pytest.mark.parametrize("word", ["1", "t", "T", "true", "True", "y", "yes", "YES", "on", " on "])
@pytest.mark.parametrize("name", ["AIS_SKIP_VERIFY_CRT", "AIS_SKIP_VERIFY"])
def test_words_that_skip(monkeypatch: pytest.MonkeyPatch, name: str, word: str) -> None:
    monkeypatch.setenv(name, word)
    assert Tls.of(None, None, None).skip_verify
    assert not Tls.of(None, None, False).skip_verify
    assert not Tls.of("ca.pem", None, None).skip_verify, "who names a CA wants it used"


@pytest.mark.parametrize("word", ["", "0", "f", "false", "no", "off", "2", "enabled", "tru"])
def test_words_that_do_not(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("AIS_SKIP_VERIFY_CRT", word)
    assert not Tls.of(None, None, None).skip_verify


def test_the_new_name_wins_over_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIS_SKIP_VERIFY_CRT", "false")
    monkeypatch.setenv("AIS_SKIP_VERIFY", "true")
    assert not Tls.of(None, None, None).skip_verify


def test_skipping_warns_once_and_shows() -> None:
    """Each client says so, and its repr keeps saying it."""
    with pytest.warns(UnverifiedTlsWarning, match=r"127\.0\.0\.1:1: certificates are not verified") as told:
        client = fastmpu.Client(URL, skip_verify=True)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert "certificates NOT verified" in repr(client)
    client.close()
    with fastmpu.Client(URL) as careful:
        assert "NOT" not in repr(careful)


@pytest.mark.parametrize(("given", "missing"), [("AIS_CRT", "AIS_CRT_KEY"), ("AIS_CRT_KEY", "AIS_CRT")])
def test_half_a_client_certificate(monkeypatch: pytest.MonkeyPatch, given: str, missing: str) -> None:
    monkeypatch.setenv(given, "x.pem")
    with pytest.raises(UsageError, match=f"{given} is set and {missing} is not"):
        fastmpu.Client(URL)
    fastmpu.Client("http://127.0.0.1:1").close()  # it is for another cluster, then


BAD: dict[str, tuple[Callable[[Files], dict[str, Any]], str]] = {
    "no such CA": (lambda f: {"ca_file": f.missing}, "No such file"),
    "empty CA": (lambda f: {"ca_file": f.empty}, "no certificates in PEM form"),
    "noise for a CA": (lambda f: {"ca_file": f.noise}, "no certificates in PEM form"),
    "a key for a CA": (lambda f: {"ca_file": f.key}, "no certificates in PEM form"),
    "no path at all": (lambda f: {"ca_file": ""}, "path of a file"),
    "a number": (lambda f: {"ca_file": 3}, "path of a file"),
    "NUL": (lambda f: {"ca_file": "a\0b"}, "path of a file"),
    "no such certificate": (lambda f: {"client_cert": (f.missing, f.key)}, "No such file"),
    "no such key": (lambda f: {"client_cert": (f.certificate, f.missing)}, "No such file"),
    "another's key": (lambda f: {"client_cert": (f.certificate, f.other_key)}, "not that of the certificate"),
    "noise for a key": (lambda f: {"client_cert": (f.certificate, f.noise)}, "no certificate and key in PEM form"),
    "swapped": (lambda f: {"client_cert": (f.key, f.certificate)}, "no certificate and key in PEM form"),
    "encrypted, no password": (lambda f: {"client_cert": (f.certificate, f.locked_key)}, "the key is encrypted"),
    "encrypted, wrong password": (
        lambda f: {"client_cert": (f.certificate, f.locked_key, lambda: "sesame")},
        "password does not open",
    ),
    "a bare password": (lambda f: {"client_cert": (f.certificate, f.key, "opensesame")}, "must be a function"),
    "one file": (lambda f: {"client_cert": str(f.certificate)}, r"\(certificate, key\)"),
    "one of two": (lambda f: {"client_cert": (f.certificate,)}, r"\(certificate, key\)"),
    "None for a key": (lambda f: {"client_cert": (f.certificate, None)}, "path of a file"),
    "yes": (lambda f: {"skip_verify": "yes"}, "True or False"),
    "both": (lambda f: {"skip_verify": True, "ca_file": f.ca}, "exclude each other"),
    "context and CA": (lambda f: {"ssl_context": ssl.create_default_context(), "ca_file": f.ca}, "exclude each other"),
    "http and CA": (lambda f: {"endpoint": "http://h:1", "ca_file": f.ca}, "nothing would be encrypted"),
    "http and certificate": (lambda f: {"endpoint": "http://h:1", "client_cert": (1, 2)}, "nothing would be encrypted"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_will_not_do(files: Files, case: str) -> None:
    """A UsageError that names the argument, when the client is made; nothing asks for a password on the terminal."""
    make, says = BAD[case]
    with pytest.raises(UsageError, match=says) as caught:
        fastmpu.Client(**{"endpoint": URL, **make(files)})
    assert "opensesame" not in str(caught.value)


def test_an_encrypted_key_with_its_password(files: Files) -> None:
    context_of(client_cert=(files.certificate, files.locked_key, lambda: "opensesame"))


def test_a_key_log_of_the_environment_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSLKEYLOGFILE would have the session's keys (reliability F4)."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    assert context_of().keylog_filename is None


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_clocks_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds; 0 is for none; an argument replaces them all."""
    monkeypatch.setenv("AIS_CONNECT_TIMEOUT", "1.5")
    monkeypatch.setenv("AIS_READ_TIMEOUT", "0")
    with fastmpu.Client(URL) as client:
        timeouts = client.endpoint.timeouts
    assert (timeouts.connect, timeouts.response, timeouts.write) == (1.5, math.inf, 30)
    assert timeouts.for_body(1 << 30) == {"connect": 1.5, "write": 30, "read": None, "pool": 1.5}
    with fastmpu.Client(URL, timeouts=fastmpu.Timeouts()) as client:
        assert client.endpoint.timeouts == fastmpu.Timeouts()


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1s", "0x10"])
@pytest.mark.parametrize("name", ["AIS_CONNECT_TIMEOUT", "AIS_READ_TIMEOUT"])
def test_clocks_that_are_none(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError, match=f"{name}='{text}'"):
        fastmpu.Client(URL)


def test_no_stall_limit() -> None:
    assert fastmpu.Timeouts().progress == (16 * 1024, 30)
    assert fastmpu.Timeouts(stall_seconds=math.inf).progress is None
    assert fastmpu.Timeouts(stall_bytes_per_second=0).progress is None


def alert() -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    return error


def test_an_alert_about_certificates_on_a_connection_that_has_served_before() -> None:
    """On a new one it ends the handshake, and nothing was processed. A peer that has answered has ended its handshake
    long ago: what its alert is about nobody knows, nor what it did with the request.
    """
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n" + b'{"uuid":"u","version":"1","pmap":{},"tmap":{}}'
    transport = ZeroCopyTransport(connect=ScriptedStream.connector([Reply(end=alert())]))
    with fastmpu.Client("http://127.0.0.1:1", transport=transport) as client, pytest.raises(CertificateError) as told:
        client.cluster_map()
    assert not told.value.sent
    transport = ZeroCopyTransport(connect=ScriptedStream.connector([answer, Reply(end=alert())]))
    with fastmpu.Client("http://127.0.0.1:1", transport=transport) as client:
        client.cluster_map()
        with pytest.raises(TransportError, match="client certificate") as caught:
            client.cluster_map()
    assert not isinstance(caught.value, CertificateError)
    assert caught.value.sent
