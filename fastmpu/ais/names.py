"""Names: what AIStore accepts, what it would refuse or store elsewhere, and how a name is written into a URL.

`create` of a multipart upload does not check the object's name (protocol 1.6), and some names are stored so that they
are not found again (protocol 10, reliability S9). So everything is checked here, before any request.
"""

from __future__ import annotations

import re
import unicodedata
import urllib.parse
from typing import NamedTuple

from ..errors import InvalidNameError

# What users write -> what the server calls it (protocol 1.1).
PROVIDERS = {
    "ais": "ais",
    "aws": "aws", "s3": "aws",
    "gcp": "gcp", "gs": "gcp",
    "azure": "azure", "az": "azure",
    "oci": "oci", "oc": "oci",
}  # fmt: skip

MAX_BUCKET_NAME = 64
MAX_PATH_SEGMENT = 255  # bytes; beyond it names are stored hashed and prefix lists miss them

_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class ObjectURI(NamedTuple):
    """`ais://@uuid#namespace/bucket/name`, taken apart. `name` is empty, or ends in `/`, where only a prefix is
    meant.
    """

    provider: str
    namespace: str
    bucket: str
    name: str

    def __str__(self) -> str:
        return uri_of(self.provider, self.namespace, self.bucket, self.name)


def uri_of(provider: str, namespace: str, bucket: str, name: str = "") -> str:
    space = f"{namespace}/" if namespace else ""
    return f"{provider}://{space}{bucket}" + (f"/{name}" if name else "")


def parse_uri(uri: str) -> ObjectURI:
    """Take `ais://bucket/name` apart; the bucket is checked, the name is left to `check_object_name`."""
    scheme, found, rest = uri.partition("://")
    if not found or not scheme:
        raise InvalidNameError(f"{uri!r} is not a URI: write ais://bucket/name")
    provider = check_provider(scheme)
    namespace = ""
    if rest.startswith(("@", "#")):
        namespace, _, rest = rest.partition("/")
        namespace = check_namespace(namespace)
    bucket, _, name = rest.partition("/")
    if not bucket:
        raise InvalidNameError(f"{uri!r} names no bucket: write {scheme}://bucket/name")
    return ObjectURI(provider, namespace, check_bucket_name(bucket), name)


def check_provider(provider: str) -> str:
    """The server's own word for a provider."""
    try:
        return PROVIDERS[provider.lower()]
    except KeyError:
        raise InvalidNameError(f"unknown provider {provider!r}: use one of {', '.join(PROVIDERS)}") from None


def check_namespace(namespace: str) -> str:
    """`#name`, `@uuid` or `@uuid#name`; empty for the global one."""
    if namespace and not re.fullmatch(r"(@[A-Za-z0-9_-]*)?(#[A-Za-z0-9_-]+)?", namespace):
        raise InvalidNameError(
            f"bad namespace {namespace!r}: write #name, @uuid or @uuid#name (letters, digits, - and _)"
        )
    if namespace and not namespace.startswith("@"):
        return "@" + namespace
    return namespace


def check_bucket_name(name: str) -> str:
    if len(name) > MAX_BUCKET_NAME:
        raise InvalidNameError(f"bucket name {name!r} is too long: {len(name)} of at most {MAX_BUCKET_NAME} characters")
    if not _BUCKET.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"bad bucket name {name!r}: only letters, digits, dashes, underscores and single dots are allowed"
        )
    return name


def check_object_name(name: str) -> str:
    """The name itself, if the cluster stores and finds it under just these bytes; otherwise InvalidNameError says
    why.
    """
    reason = _objection(name)
    if reason:
        raise InvalidNameError(f"bad object name {name!r}: {reason}")
    return name


def _objection(name: str) -> str:
    if not name:
        return "it is empty"
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode (a lone surrogate), so it has no UTF-8 form"
    control = next((c for c in name if unicodedata.category(c) == "Cc"), None)
    if control is not None:
        return f"control character {control!r}; AIStore's redirects turn some of them into spaces"
    if name.startswith("~/"):
        return "AIStore refuses a leading '~/'"
    if name.endswith("/"):
        return "AIStore refuses a trailing '/'; give the full name"
    segments = name.split("/")
    if "" in segments:
        return "empty path segment; AIStore may store 'a//b' and 'a/b' in the same place"
    if "." in segments or ".." in segments:
        return "AIStore refuses path segments '.' and '..'"
    if any(len(segment.encode()) > MAX_PATH_SEGMENT for segment in segments):
        return f"a path segment is longer than {MAX_PATH_SEGMENT} bytes; AIStore's prefix lists would miss it"
    if len(encoded) > MAX_NAME:
        return f"{len(encoded)} bytes, of at most {MAX_NAME}"
    return ""


MAX_NAME = 4096  # bytes; a file path on the target's disks


def escape(name: str) -> str:
    """Percent-encode every byte of UTF-8 but the unreserved ones and `/` (protocol 1.6). Once, and only here."""
    return urllib.parse.quote(name, safe="/~")
