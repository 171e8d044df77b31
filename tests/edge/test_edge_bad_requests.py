# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Requests that no client should send: refused in OpenAI's shape, and no engine sees them."""

from __future__ import annotations

import re
import time

import pytest
from edge_server import CHAT, Edge, chat
from http_client import request
from rendering import ALICE

KEY = f"Authorization: Bearer {ALICE}"
HOST = "Host: edge.example.net"


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


POST = f"POST {CHAT} HTTP/1.1"

BAD: dict[str, tuple[bytes, int]] = {
    # What comes before the headers.
    "no HTTP": (b"hello\r\n\r\n", 400),
    "nothing but line ends": (b"\r\n" * 9 + b"?\r\n\r\n", 400),
    "a TLS handshake": (bytes.fromhex("16030100c8010000c40303") + b"\x01" * 200, 400),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "another protocol": (raw("GET / RTSP/1.0", HOST), 400),
    "a version that is none": (raw("GET /v1/models HTTP/1.x", HOST, KEY), 400),
    "no path": (raw("GET  HTTP/1.1", HOST), 400),
    "no slash": (raw("GET v1/models HTTP/1.1", HOST), 400),
    "below the root": (raw("GET /../../etc/passwd HTTP/1.1", HOST), 400),
    "broken percent": (raw("GET /v1/models%zz HTTP/1.1", HOST, KEY), 400),
    "half a percent": (raw("GET /v1/models% HTTP/1.1", HOST, KEY), 400),
    "NUL in the path": (raw("GET /v1/mod\x00els HTTP/1.1", HOST, KEY), 400),
    "encoded NUL in the path": (raw("GET /v1/models%00 HTTP/1.1", HOST, KEY), 400),
    "control characters in the path": (raw("GET /v1/\x01\x7f HTTP/1.1", HOST, KEY), 400),
    "40 kB of path": (raw(f"GET /{'a' * 40_000} HTTP/1.1", HOST, KEY), 414),
    "40 kB of query": (raw(f"GET /v1/models?{'a' * 40_000} HTTP/1.1", HOST, KEY), 414),
    # Headers.
    "no host": (raw("GET /v1/models HTTP/1.1", KEY), 400),
    "two hosts": (raw("GET /v1/models HTTP/1.1", HOST, HOST, KEY), 400),
    "a host that is none": (raw("GET /v1/models HTTP/1.1", "Host: a/b\\c", KEY), 400),
    "40 kB of header": (raw("GET /v1/models HTTP/1.1", HOST, f"X: {'a' * 40_000}"), 400),
    "5000 headers": (raw("GET /v1/models HTTP/1.1", HOST, *["X-A: b"] * 5_000), 400),
    "NUL in a header": (raw("GET /v1/models HTTP/1.1", HOST, "X: a\x00b"), 400),
    "NUL in a name": (raw("GET /v1/models HTTP/1.1", HOST, "X\x00: a"), 400),
    "a space before a colon": (raw(POST, HOST, KEY, "Content-Length : 2", body=b"{}"), 400),
    "a folded header": (raw("GET /v1/models HTTP/1.1", HOST, KEY, "X: a", " b"), 400),
    # Where a body ends: what two servers could read differently.
    "length and chunks": (
        raw(POST, HOST, KEY, "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
    ),
    "chunks and length": (
        raw(POST, HOST, KEY, "Transfer-Encoding: chunked", "Content-Length: 4", body=b"0\r\n\r\n"),
        400,
    ),
    "two lengths": (
        raw(POST, HOST, KEY, "Content-Length: 2", "Content-Length: 3", body=b"{}"),
        400,
    ),
    "a length twice": (raw(POST, HOST, KEY, *["Content-Length: 2"] * 2, body=b"{}"), 400),
    "a negative length": (raw(POST, HOST, KEY, "Content-Length: -1", body=b"{}"), 400),
    "a length with a sign": (raw(POST, HOST, KEY, "Content-Length: +2", body=b"{}"), 400),
    "a length in hex": (raw(POST, HOST, KEY, "Content-Length: 0x2", body=b"{}"), 400),
    "a list of lengths": (raw(POST, HOST, KEY, "Content-Length: 2, 2", body=b"{}"), 400),
    "an endless length": (raw(POST, HOST, KEY, f"Content-Length: {'9' * 30}", body=b"{}"), 400),
    "chunks twice": (
        raw(POST, HOST, KEY, *["Transfer-Encoding: chunked"] * 2, body=b"0\r\n\r\n"),
        400,
    ),
    "an unknown coding": (raw(POST, HOST, KEY, "Transfer-Encoding: gzip", body=b"{}"), 501),
    "a hidden coding": (raw(POST, HOST, KEY, "Transfer-Encoding: \x0bchunked", body=b"{}"), 501),
    "chunks in HTTP/1.0": (
        raw(f"POST {CHAT} HTTP/1.0", HOST, KEY, "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
    ),
    # Bodies.
    "a length above the limit": (raw(POST, HOST, KEY, f"Content-Length: {9 << 20}"), 413),
    "a length far above it": (raw(POST, HOST, KEY, f"Content-Length: {1 << 60}"), 413),
    "a chunk above the limit": (
        raw(POST, HOST, KEY, "Transfer-Encoding: chunked", body=b"ffffffff\r\n{}"),
        413,
    ),
}


@pytest.mark.parametrize(("content", "status"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_as_json(edge: Edge, content: bytes, status: int) -> None:
    edge.send(content).refused(status)
    assert edge.seen() == []


BROKEN_CHUNKS = {
    "no size": b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-1\r\n{}\r\n0\r\n\r\n",
    "an endless size": b"fffffffffffffffff\r\n",
    "more than its size": b"1\r\n{}{}{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
@pytest.mark.parametrize("pause", [0, 0.05], ids=["at once", "behind the head"])
def test_broken_chunks_are_refused_as_json(edge: Edge, body: bytes, pause: float) -> None:
    with edge.connect() as connection:
        connection.send(raw(POST, HOST, KEY, "Transfer-Encoding: chunked"))
        time.sleep(pause)
        connection.ask(body).refused(400, "bad_request")
    assert edge.seen() == []


def test_http_0_9_gets_nothing_from_an_engine(edge: Edge) -> None:
    with edge.connect() as connection:
        connection.send(b"GET /v1/models\r\n")
        answer = connection.sock.makefile("rb").read()
    assert b"<html" not in answer.lower()
    assert edge.seen() == []


def test_http_1_0_is_served(edge: Edge) -> None:
    assert edge.send(raw("GET /v1/models HTTP/1.0", KEY)).status == 200


def test_a_future_version_is_refused(edge: Edge) -> None:
    answer = edge.send(raw("GET /v1/models HTTP/9.9", HOST, KEY))
    assert answer.status == 505
    assert b"<html" not in answer.body
    assert edge.seen() == []


def test_200_headers_are_many(edge: Edge) -> None:
    # Taken or refused, by the release of nginx; never a failure of the edge.
    answer = edge.send(raw("GET /v1/models HTTP/1.1", HOST, KEY, *["X-A: b"] * 200))
    if answer.status != 200:
        answer.refused(400)
        assert edge.seen() == []


def test_a_second_request_behind_a_body_is_one_of_its_own(edge: Edge) -> None:
    # The classic of smuggling: what follows the length is no part of the first request.
    hidden = raw("GET /metrics HTTP/1.1", HOST, "Connection: close")
    with edge.connect() as connection:
        connection.send(request("POST", CHAT, chat(), key=ALICE) + hidden)
        answers = connection.sock.makefile("rb").read()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404"]
    assert [one.target for one in edge.seen()] == [CHAT]


def test_headers_with_underscores_reach_no_engine(edge: Edge) -> None:
    # vLLM's server reads X_Request_Id and X-Request-Id alike.
    answer = edge.ask("POST", CHAT, chat(), headers={"X_Request_Id": "mine", "X_Api_Key": "a"})
    assert answer.status == 200
    [seen] = edge.seen()
    assert not [name for name, _value in seen.headers if "_" in name]


def test_a_body_in_chunks_arrives_with_a_length(edge: Edge) -> None:
    chunked = raw(POST, HOST, KEY, "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n")
    assert edge.send(chunked).status == 200
    [seen] = edge.seen()
    assert (seen.header("Content-Length"), seen.header("Transfer-Encoding")) == ("2", None)


def test_a_client_that_leaves_within_its_body_reaches_no_engine(edge: Edge) -> None:
    with edge.connect() as connection:
        connection.send(raw(POST, HOST, KEY, "Content-Length: 99", body=b"{"))
    assert edge.chat().status == 200
    assert len(edge.seen()) == 1


def test_a_client_may_wait_before_it_sends_its_body(edge: Edge) -> None:
    body = b"{}"
    with edge.connect() as connection:
        connection.send(raw(POST, HOST, KEY, "Expect: 100-continue", "Content-Length: 2"))
        interim = connection.sock.recv(100)
        assert interim.startswith(b"HTTP/1.1 100 ")
        assert connection.ask(body).status == 200
