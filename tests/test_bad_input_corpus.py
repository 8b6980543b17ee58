"""Bad input by the thousand: each is refused by a typed error that names it, and no request is sent.

The table is generated: kinds of bad values times the places where they can be put. `SILENT` counts what would have gone
out. What is secret, tokens and passwords, is refused without being named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from canary import CANARY
from hypothesis import given
from hypothesis import strategies as st

import fastmpu
from fastmpu.ais.names import check_object_name
from fastmpu.errors import FastMPUError, UsageError


class Silent(httpx.BaseTransport):
    """Counts requests; answers none."""

    def __init__(self) -> None:
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        raise httpx.ConnectError("nothing was to be sent")


SILENT = Silent()
CLIENT = fastmpu.Client("http://127.0.0.1:1", token=CANARY, transport=SILENT)
BUCKET = CLIENT.bucket("bucket")
OBJECT = BUCKET.object("name")
DATA = bytes(20_000)


class Case(NamedTuple):
    """`value` is to be found in the error, as people see it; None where it must not be."""

    where: str
    act: Callable[[], object]
    value: Any = None


CONTROLS = [chr(code) for code in (*range(32), 127, *range(128, 160))]
PLACES = ("{}", "a{}", "{}a", "a{}b", "a/{}/b", "a/b{}", "{}/a", "dir/na{}me.bin")


def bad_object_names() -> Iterator[str]:
    for control, place in itertools.product(CONTROLS, PLACES):
        yield place.format(control)
    for lone, place in itertools.product(("\ud800", "\udcff", "\udfff"), PLACES):
        yield place.format(lone)
    for segment, place in itertools.product((".", ".."), ("{}", "{}/a", "a/{}", "a/{}/b", "./{}", "../{}/../x")):
        yield place.format(segment)
    yield from ("", "/", "//", "/a", "a/", "a//b", "//a", "a//", "~/", "~/a", "~/../a")
    yield from ("x" * 256, "a/" + "x" * 256, "\u6f22" * 86, "/".join(["x" * 250] * 17), "x" * 100_000)


def bad_bucket_names() -> Iterator[str]:
    for letter in " /\\?#%&=+*:;,'\"<>|{}[]()!$@^`~\u00fc\u6f22\U0001f600\ud800" + "".join(CONTROLS[:33]):
        yield from (f"a{letter}b", f"{letter}a", f"a{letter}")
    yield from ("", "..", "a..b", "x" * 65, "x" * 1000, "a\r\nHost: evil")


NUMBERS: list[Any] = [0, -1, 10_000, 10**9, -(10**9), 1 << 64, True, False, 1.0, 1.5, math.nan, math.inf, "1", "", None]
NUMBERS += [b"1", [1], (1,), {}, object, "abc", "1.5", "0x1", "\u0661", 2 + 0j]
SIZES: list[Any] = [-1, -(1 << 40), 6 << 30, 1 << 70, True, False, 1.5, math.nan, b"5", [], {}, (), object]
SIZES += [
    "",
    " ",
    "a lot",
    "-5MiB",
    "5 XiB",
    "MiB",
    "1e6",
    "0x10",
    "5,5MiB",
    "5MiB5",
    "\u0665MiB",
    "inf",
    "nan",
    "5MiB\0",
]
WORDS: list[Any] = ["", " ", "yes", "HEAD", "Auto", "none ", "\0", "auto\n", 0, 1, True, False, 2.5, b"auto", [], {}]
WORDS += [("auto",), object, "x" * 1000, "\u6f22", "threads", "process", "md5", "crc32", "sha-256"]
COUNTS: list[Any] = [0, -1, 1025, 1 << 40, True, False, 1.5, "4", "", b"4", [], {}, math.inf, math.nan, object]
SECONDS: list[Any] = [0, -1, -0.5, math.nan, True, False, "10", "", b"1", [], {}, object, 1j]
OBJECTS: list[Any] = [0, 1, True, "x", b"x", [], (), {}, 1.5, object()]
CHOICES = ("engine", "checksum", "verify", "read", "mode", "on_error", "on_change", "part_checksum", "fence")
STRAY_OPTIONS = (
    "partsize",
    "chunk_size",
    "part-size",
    "PART_SIZE",
    "concurrency",
    "retries",
    "timeout",
    "",
    " ",
    "__class__",
)

ENDPOINTS: list[Any] = [
    *(
        "host",
        "host:8080",
        "127.0.0.1",
        "//host",
        "http:",
        "http:/",
        "http://",
        "http:///v1",
        "http://:8080",
        "://host",
    ),
    *(f"{scheme}://host" for scheme in ("ftp", "file", "ws", "unix", "s3", "ais", "httpx", "ht tp", "javascript")),
    *(f"http://host:{port}" for port in ("", "0", "65536", "99999", "-1", "abc", "80.5", "8o", " 80", "80 ")),
    *(f"http://host{path}" for path in ("/v1", "/v1/objects", "//", "/ ", "?x", "/?x=1", "#f", "/#", "?", "#", "\\")),
    *(f"http://ho{c}st" for c in " \t\r\n\0\x7f<>\"{}|^`\\%$&'()*+,;=!~\u00fc\u6f22"),
    *("http://[::1", "http://::1]", "http://[zz]", "http://.host", "http://ho..st", "http://-host", "http://host-"),
    *(0, 8080, True, b"http://host", ["http://host"], ("http", "host"), {}, 1.5, object()),
]
HEX = "0123456789abcdef"
NO_HEX: list[Any] = [None, 3, b"e3069283", [], "zzzzzzzz", " e3069283", "e3069283 ", HEX * 9, "\u00e93069283"]
CHECKSUMS: list[Any] = [
    *(
        ("crc32c", value)
        for value in ("", "E3069283", "e306928", "0x306928", "e3069283\n", "e3069283\r\nX: y", "\0" * 8)
    ),
    *(("crc32c", value) for value in NO_HEX),
    *(
        (kind, "e3069283")
        for kind in ("", "crc32", "CRC32C", "sha1", "xxh3", None, 3, b"md5", "none", "md5\r\nX: y", "\0")
    ),
    *("crc32c", "crc32c:e3069283", ("crc32c",), ("crc32c", "e3069283", ""), ["crc32c", "e3069283"], 3, b"x", {}),
]
HEADERS = [
    f"{text}"
    for text in (
        "a\r\nb",
        "a\nb",
        "a\rb",
        "a\0b",
        "\r\n",
        " a",
        "a ",
        "",
        "\x7f",
        "\u00fc",
        "\u6f22",
        "a\tb",
        "\x1b[0m",
    )
]
TOKENS: list[Any] = [
    *(f"abcdef{c}ghijkl" for c in [*CONTROLS, *" \"'(),:;<>?@[]{}\\|^`!#$%&*\u00fc\u6f22\ud800"]),
    *("", "=", "==", "ab=cd", "Bearer abcdef", "x" * 20_000),
    *(0, 1, True, 1.5, b"abcdefghijkl", ["abcdefghijkl"], {"token": "abcdefghijkl"}, ("abcdefghijkl",)),
]
BUFFERS: list[Any] = [
    "text",
    3,
    1.5,
    None,
    [1, 2],
    {},
    object(),
    memoryview(b"abcdef")[::2],
    memoryview(b"abcdef")[::-1],
]
URIS = [
    *(
        "",
        " ",
        "name",
        "bucket/name",
        "://b/o",
        "ais:/b/o",
        "ais:b/o",
        "ais//b/o",
        "ais://",
        "ais:///o",
        "ais:////",
        "#",
        "@",
    ),
    *(
        f"{scheme}://b/o"
        for scheme in ("http", "https", "file", "hdfs", "ftp", "s4", "AIS2", "a is", "\u00e4is", "ais\n", "-")
    ),
    *(f"ais://{space}/b/o" for space in ("@ ", "#", "@u#", "##x", "@u@v", "#a b", "@\u00fc", "#x\n", "@u#n#m", "#\0")),
    *(f"ais://{bucket}/o" for bucket in bad_bucket_names() if bucket and bucket[0] not in "/@#" and "/" not in bucket),
]


def put_part(headers: dict[str, str]) -> object:
    upload = OBJECT.multipart_upload()
    upload.ledger.created("U123456789")
    from fastmpu._transport import BufferBody

    return upload.put_part(1, BufferBody(b"x"), headers=headers)


def part(number: Any) -> object:
    upload = OBJECT.multipart_upload()
    upload.ledger.created("U123456789")
    return upload.add_part(number)


def content(data: Any) -> object:
    upload = OBJECT.multipart_upload()
    upload.ledger.created("U123456789")
    return upload.add_part(1).put_content(data)


def cases() -> Iterator[Case]:
    value: Any
    values: list[Any]
    options: dict[str, list[Any]]
    for name in bad_object_names():
        yield Case("object", lambda name=name: BUCKET.object(name), name)  # type: ignore[misc]
        if name and not name.endswith("/"):
            yield Case("URI's name", lambda uri=f"ais://bucket/{name}": fastmpu.upload(DATA, uri, client=CLIENT), name)  # type: ignore[misc]
    for name in bad_bucket_names():
        yield Case("bucket", lambda name=name: CLIENT.bucket(name), name)  # type: ignore[misc]
    for uri in URIS:
        yield Case("URI", lambda uri=uri: fastmpu.upload(DATA, uri, client=CLIENT), "")  # type: ignore[misc]
    for value in NUMBERS:
        yield Case("part number", lambda value=value: part(value), value)  # type: ignore[misc]
    options = {"part_size": SIZES, "multipart_threshold": SIZES, "max_concurrency": COUNTS, "deadline": SECONDS}
    options |= dict.fromkeys(CHOICES, WORDS)
    options |= {"retry": OBJECTS, "progress": [each for each in OBJECTS if not callable(each)], "cancel": OBJECTS}
    for name, values in options.items():
        for value in values:
            yield Case(name, lambda o={name: value}: OBJECT.upload(DATA, **o), value)  # type: ignore[misc]
    for name in STRAY_OPTIONS:
        yield Case("option", lambda o={name: 1}: OBJECT.upload(DATA, **o), name)  # type: ignore[misc]
    for value in ENDPOINTS:
        yield Case("endpoint", lambda value=value: fastmpu.Client(value, transport=SILENT), value)  # type: ignore[misc]
    for value in ("http://u:p@host", "http://u@host", "https://:secretword@h:1"):
        yield Case("endpoint with a password", lambda value=value: fastmpu.Client(value, transport=SILENT))  # type: ignore[misc]
    for value in TOKENS:
        yield Case("token", lambda value=value: fastmpu.Client("http://h", token=value, transport=SILENT))  # type: ignore[misc]
    for value in CHECKSUMS:
        yield Case("checksum", lambda value=value: OBJECT.put(b"x", checksum=value), "")  # type: ignore[misc]
    for value in HEADERS:
        yield Case("header", lambda value=value: put_part({"x-amz-content-sha256": value}), value)  # type: ignore[misc]
    for value in BUFFERS:
        yield Case("buffer of a put", lambda value=value: OBJECT.put(value), "")  # type: ignore[misc]
        yield Case("buffer of a part", lambda value=value: content(value), "")  # type: ignore[misc]
    yield Case("empty part", lambda: content(b""), "")
    for field in (
        "connect",
        "write",
        "response",
        "response_per_gib",
        "fence",
        "stall_seconds",
        "stall_bytes_per_second",
    ):
        for value in (-1, math.nan, "5", "", None, True, [], {}, b"5", 1j, object, -math.inf):
            yield Case(f"Timeouts({field})", lambda o={field: value}: fastmpu.Timeouts(**o), value)  # type: ignore[misc]
    for value in OBJECTS:
        yield Case("timeouts", lambda value=value: fastmpu.Client("http://h", timeouts=value), value)  # type: ignore[misc]
        yield Case("transport", lambda value=value: fastmpu.Client("http://h", transport=value), value)  # type: ignore[misc]


CORPUS = list(cases())
SHARES = 16  # tests, so that the corpus can be spread over processes


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 1000


def names(error: FastMPUError, value: Any) -> bool:
    """Whether the error has the value in it, or at least its beginning, written in one of the usual ways."""
    text = str(error)
    written = {repr(value), str(value).encode("unicode_escape").decode(), repr(value)[1:-1]}
    return any(each[:40] in text or each[-40:] in text for each in written)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_typed_error_and_no_request(share: int) -> None:
    """Every case: an error of fastmpu's tree that is a ValueError, with the value in its words, before any byte."""
    before = SILENT.requests
    wrong = []
    for case in CORPUS[share::SHARES]:
        try:
            case.act()
        except UsageError as error:
            if case.value is not None and not names(error, case.value):
                wrong.append((case.where, case.value, f"not named: {error}"))
            if case.where in ("token", "endpoint with a password") and any(
                word in str(error) for word in ("abcdef", "ghijkl", "secretword", ":p@")
            ):
                wrong.append((case.where, "", f"shown: {error}"))
        except Exception as error:  # noqa: BLE001 - to be told with all the others
            wrong.append((case.where, case.value, repr(error)))
        else:
            wrong.append((case.where, case.value, "accepted"))
    assert wrong == []
    assert SILENT.requests == before


def refusal(act: Callable[[], object]) -> str | None:
    """The words of a UsageError; None if there was none."""
    try:
        act()
    except UsageError as error:
        return str(error)
    return None


@given(st.text())
def test_a_name_is_refused_or_kept(name: str) -> None:
    """Any text: an InvalidNameError that shows it escaped, or the very name."""
    words = refusal(lambda: check_object_name(name))
    if words is not None:
        assert words.isprintable()
        return
    assert check_object_name(name) == name
    assert all(character.isprintable() or not character.isascii() for character in name)
    assert "//" not in name
    assert name.strip("/") == name


@given(st.text(max_size=60) | st.text(max_size=40).map("http://{}".format))
def test_an_endpoint_is_refused_or_an_origin(text: str) -> None:
    """Any text: a UsageError, or a client of just that host."""
    words = refusal(lambda: fastmpu.Client(text or "x", transport=SILENT))
    if words is not None:
        assert words.isprintable()
        return
    assert text.lower().startswith(("http://", "https://"))
    client = fastmpu.Client(text, transport=SILENT)
    assert str(client.endpoint.origin).partition("://")[2].rpartition(":")[0] in text.lower()


@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=40))
def test_a_token_is_refused_or_fits_a_header(text: str) -> None:
    words = refusal(lambda: fastmpu.Secret(text))
    if words is not None:
        assert len(text) < 8 or text not in words
        return
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
