"""A request's head means the same whether it is plain, and read by one pattern, or has what makes it h11's."""

from __future__ import annotations

import pytest

from fastmpu.mock.heads import BadHead, parse_request

NOT_PLAIN = b"X:  two blanks\r\n"  # which mean nothing

STARTS = [
    b"PUT /v1/objects/b/o?provider=ais&pid=p&utm=1 HTTP/1.1",
    b"GET http://127.0.0.1:80/v1/daemon?what=smap HTTP/1.1",
    b"GET * HTTP/1.1",
    b"HEAD /%7a HTTP/1.1",
    b"PUT /%zz HTTP/1.1",
    b"PUT /\xc3\xa4 HTTP/1.1",
    b"PUT / HTTP/1.0",
    b"PUT / HTTP/2.0",
    b"PUT  / HTTP/1.1",
    b"P:T / HTTP/1.1",
    b"PUT relative HTTP/1.1",
]
FIELDS = [
    b"",
    b"Host: a\r\n",
    b"host:b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: 123456789012345678901\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Ais-Custom-Md: k=v\r\n",
    b"A: \r\n",
    b"A:\tb \r\n",
    b"A: \xc3\xa4\r\n",
    b"A: \x01\r\n",
    b"A : b\r\n",
    b" A: b\r\n",
    b"A\r\n",
]


def meaning(head: bytes) -> object:
    try:
        request = parse_request(head)
    except BadHead as error:
        return error.answer
    fields = [field for field in request.headers if field[0] != "x"]
    named = {name: value for name, value in request.named.items() if name != "x"}
    return request.method, request.path, request.query.raw, fields, named, request.http_1_0, request.length


@pytest.mark.parametrize("start", STARTS)
def test_a_head_means_the_same_however_it_is_read(start: bytes) -> None:
    for host in (b"Host: a\r\n", b""):
        for first in FIELDS:
            for second in FIELDS:
                head = start + b"\r\n" + host + first + second
                assert meaning(head + b"\r\n") == meaning(head + NOT_PLAIN + b"\r\n")


def test_a_plain_head_and_what_it_says() -> None:
    request = parse_request(
        b"PUT /v1/objects/b/o%2Fp?a=1&b HTTP/1.1\r\nHost: a:80\r\nA: b\r\na: c\r\nContent-Length: 7\r\n\r\n"
    )
    assert (request.method, request.path, request.query.raw) == ("PUT", "/v1/objects/b/o/p", "a=1&b")
    assert request.headers == (("host", "a:80"), ("a", "b"), ("a", "c"), ("content-length", "7"))
    assert (request.header("a"), request.header_values("a"), request.length) == ("b", ["b", "c"], 7)
