"""TLS by arguments and by AIStore's own environment variables (protocol 1.5), and what its failures mean.

Arguments win over the environment. Certificates are verified, of proxies and of targets alike, unless somebody asks for
the contrary; nothing ever falls back to http. TLS 1.2 and newer; the transport offers HTTP/1.1 alone.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import UsageError

FilePath = str | os.PathLike[str]
ClientCert = tuple[FilePath, FilePath] | tuple[FilePath, FilePath, Callable[[], str | bytes]]
"""Certificate chain and key, in PEM; for an encrypted key also a function that returns its password."""

_TRUE = ("1", "t", "true", "y", "yes", "on")  # as AIStore's SDK reads it


class UnverifiedTlsWarning(UserWarning):
    """A client was told not to verify certificates: whoever is on the way can read and change everything."""


@dataclass(frozen=True)
class Tls:
    """What to trust and what to show. `ca_file`: a PEM file or a directory of hashed ones, instead of the system's."""

    ca_file: FilePath | None = None
    client_cert: ClientCert | None = None
    skip_verify: bool = False

    @classmethod
    def of(
        cls,
        ca_file: FilePath | None,
        client_cert: ClientCert | None,
        skip_verify: bool | None,
        environment: Mapping[str, str] = os.environ,
    ) -> Tls:
        """Arguments, and for each that is None the environment. Reads no file yet."""
        if ca_file is not None:
            _check_path("ca_file", ca_file)
        if client_cert is not None:
            _check_client_cert(client_cert)
        if not isinstance(skip_verify, (bool, type(None))):
            raise UsageError(f"skip_verify={skip_verify!r}: it must be True or False")
        if skip_verify and ca_file is not None:
            raise UsageError(f"ca_file={ca_file!r} and skip_verify=True exclude each other: verify, or do not")
        if skip_verify is None:
            # Who names a CA wants it used, whatever the environment says.
            skip_verify = ca_file is None and _skips(environment)
        if client_cert is None:
            certificate, key = environment.get("AIS_CRT", ""), environment.get("AIS_CRT_KEY", "")
            if bool(certificate) != bool(key):
                given, missing = ("AIS_CRT", "AIS_CRT_KEY") if certificate else ("AIS_CRT_KEY", "AIS_CRT")
                raise UsageError(f"{given} is set and {missing} is not: a client certificate needs both")
            client_cert = (certificate, key) if certificate else None
        return cls(ca_file or environment.get("AIS_CLIENT_CA") or None, client_cert, skip_verify)

    def context(self) -> ssl.SSLContext:
        """UsageError, which names the file, for files that will not do. No environment is read but OpenSSL's own
        `SSL_CERT_FILE` and `SSL_CERT_DIR`, where it looks for the system's CAs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not create_default_context: SSLKEYLOGFILE is for others
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca_file is None:
            context.load_default_certs()
        else:
            self._load_ca(context, self.ca_file)
        if self.client_cert is not None:
            _load_client_cert(context, self.client_cert)
        return context

    def elsewhere(self) -> Elsewhere:
        """The same for another process, which reads the files again: where they are, wherever it is."""
        if self.client_cert is not None and len(self.client_cert) == 3:
            return Elsewhere(obstacle="client_cert's password comes from a function, which stays in this process")
        certificate = self.client_cert and (_absolute(self.client_cert[0]), _absolute(self.client_cert[1]))
        ca_file = None if self.ca_file is None else _absolute(self.ca_file)
        return Elsewhere(Tls(ca_file, certificate, self.skip_verify))

    @staticmethod
    def _load_ca(context: ssl.SSLContext, path: FilePath) -> None:
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
                return
            _readable("ca_file", path)
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as error:
            raise UsageError(f"ca_file={path!r}: no certificates in PEM form ({_reason(error)})") from None


@dataclass(frozen=True)
class Elsewhere:
    """What makes a transport like a client's in another process. `obstacle`: why there cannot be one, "" if there can;
    `tls`: None for http."""

    tls: Tls | None = None
    obstacle: str = ""


NOWHERE = Elsewhere(obstacle="the client was given a transport= of its own, and only this process has that")


def _absolute(path: FilePath) -> str:
    return os.path.abspath(os.fspath(path))


def _skips(environment: Mapping[str, str]) -> bool:
    text = environment.get("AIS_SKIP_VERIFY_CRT") or environment.get("AIS_SKIP_VERIFY") or ""
    return text.strip().lower() in _TRUE


def _check_path(name: str, path: Any) -> None:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path) or "\0" in str(path):
        raise UsageError(f"{name}={path!r}: it must be the path of a file")


def _check_client_cert(given: Any) -> None:
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise UsageError(f"client_cert={given!r}: it must be (certificate, key), or (certificate, key, password)")
    _check_path("client_cert's certificate", given[0])
    _check_path("client_cert's key", given[1])
    if len(given) == 3 and not callable(given[2]):
        raise UsageError("client_cert's password must be a function that returns it (what was given is not shown)")


def _readable(name: str, path: FilePath) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise UsageError(f"{name}={os.fspath(path)!r}: {error.strerror}") from None


class _Encrypted(Exception):
    """OpenSSL asks for a password, and there is none."""


def _no_password() -> NoReturn:
    raise _Encrypted  # else OpenSSL would ask on the terminal, and wait there


def _load_client_cert(context: ssl.SSLContext, given: ClientCert) -> None:
    certificate, key = given[0], given[1]
    _readable("client_cert's certificate", certificate)
    _readable("client_cert's key", key)
    shown = f"client_cert=({os.fspath(certificate)!r}, {os.fspath(key)!r})"
    try:
        context.load_cert_chain(certificate, key, given[2] if len(given) == 3 else _no_password)
    except _Encrypted:
        raise UsageError(
            f"{shown}: the key is encrypted; give a function that returns its password as a third"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{shown}: the key is not that of the certificate") from None
        if len(given) == 3 and error.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ", None):
            raise UsageError(f"{shown}: the password does not open the key") from None
        raise UsageError(f"{shown}: no certificate and key in PEM form ({_reason(error)})") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


# --- what failures mean -----------------------------------------------------------------------------------------------

# OpenSSL's X509_V_ERR_...
_VERIFY = {
    9: "its certificate is not valid yet: compare the clocks",
    10: "its certificate has expired",
    18: "its certificate is self-signed and not among those to trust: give ca_file= (AIS_CLIENT_CA)",
    19: "its certificate is signed by an authority that is not trusted: give ca_file= (AIS_CLIENT_CA)",
    20: "its certificate is signed by an authority that is not trusted: give ca_file= (AIS_CLIENT_CA)",
    62: "its certificate is for another name: the host, as the cluster map has it, must be one of its SANs",
    64: "its certificate does not name that IP address. AIStore's redirects lead to the targets' addresses as the "
    "cluster map has them, often IPs: each must be in its node's certificate as a SAN of type IP",
}
# Alerts about our certificate, or that there is none: that is a plain handshake failure in TLS 1.2.
_WANTS_OURS = re.compile(".*ALERT.*(CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE)")


def about_certificates(error: BaseException) -> bool:
    """Whether TLS ended since one side does not trust the other's certificate. A server says so in an alert, in TLS 1.3
    after our first bytes, none of which it has processed. Where a reset eats the alert, it cannot be known."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    return isinstance(cause, ssl.SSLError) and bool(_WANTS_OURS.match(cause.reason or ""))


def explain(error: BaseException) -> str:
    """What to do about a failure of TLS, to follow its message; empty for other failures."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f" - {_VERIFY.get(cause.verify_code, 'its certificate was not accepted')}"
    if not isinstance(cause, ssl.SSLError):
        return ""
    reason = cause.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return " - it does not speak TLS there: is it http://?"
    if "ALERT_PROTOCOL_VERSION" in reason or reason in ("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"):
        return " - it speaks no TLS that is new enough: 1.2 is the oldest that is spoken here"
    if isinstance(cause, ssl.SSLEOFError):  # the reason, if it gave one, was lost with the connection
        return " - it ended TLS without a word: it may want a client certificate (client_cert=; AIS_CRT, AIS_CRT_KEY)"
    if _WANTS_OURS.match(reason):
        return " - it may want a client certificate that it knows: give client_cert= (AIS_CRT, AIS_CRT_KEY)"
    return ""
