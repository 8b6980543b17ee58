"""Certificates made on the spot, good and bad ones, for a mock that speaks HTTPS. Needs the package `cryptography`.

    authority = Authority(directory)
    cluster = Cluster(tls=authority.issue("127.0.0.1"))  # clients trust authority.ca_file
    cluster.set_tls(authority.issue("127.0.0.1", kind="expired"), node="proxy")

A node that shows such a certificate is a fault that clients must refuse to talk to.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from fastmpu.mock.tls import Tls

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["KINDS", "Authority"]

KINDS = ("good", "expired", "not_yet_valid", "wrong_host", "wrong_ca", "self_signed")
"""What a certificate can be: all but the first are refused by a client that checks."""

_DAY = datetime.timedelta(days=1)
_STRANGER = "stranger.invalid"


class Authority:
    """A certificate authority of its own, whose files lie in a directory."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """ValueError if `cryptography` is not installed."""
        try:
            import cryptography.x509  # noqa: F401  (not a dependency: only self-made certificates need it)
        except ImportError as error:
            raise ValueError(
                "self-made certificates need the package 'cryptography' (pip install cryptography); "
                "or give your own: Tls(certificate=..., key=...)"
            ) from error
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._numbers = count(1)
        self._key, self._certificate = _make_ca("fastmpu mock")
        self._other_key, self._other_certificate = _make_ca("another authority")
        self.ca_file = self._directory / "ca.pem"
        self.ca_file.write_bytes(_pem(self._certificate))

    def issue(
        self, *hosts: str, kind: str = "good", client_auth: int = 0, client_ca: str | os.PathLike[str] | None = None
    ) -> Tls:
        """A certificate for addresses and names, in a file of its own with its key. By default clients are ours."""
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if kind == "wrong_host":
            hosts = (_STRANGER,)
        start, days = {"expired": (-30, 20), "not_yet_valid": (10, 20)}.get(kind, (-1, 365))
        key = _new_key()
        if kind == "self_signed":
            signed_by, issuer = key, None
        elif kind == "wrong_ca":
            signed_by, issuer = self._other_key, self._other_certificate
        else:
            signed_by, issuer = self._key, self._certificate
        certificate = _sign(hosts[0], key, issuer, signed_by, start, days, hosts=hosts)
        path = self._directory / f"{next(self._numbers):03d}-{kind}.pem"
        path.touch(mode=0o600)
        path.write_bytes(_pem(certificate) + _key_pem(key))
        if client_auth >= 2 and client_ca is None:
            client_ca = self.ca_file
        return Tls(path, path, client_auth, client_ca, ca=self.ca_file)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _make_ca(name: str) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    key = _new_key()
    return key, _sign(name, key, None, key, -60, 3650, hosts=())


def _sign(
    name: str,
    key: EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signed_by: EllipticCurvePrivateKey,
    start: int,
    days: int,
    *,
    hosts: tuple[str, ...],
) -> x509.Certificate:
    """A certificate that is valid for so many days from `start`, counted from now. Without hosts, an authority's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime.now(datetime.timezone.utc) + start * _DAY
    is_ca = not hosts
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=is_ca,
                crl_sign=is_ca,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), False)
    return builder.sign(signed_by, hashes.SHA256())


def _alternative(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
