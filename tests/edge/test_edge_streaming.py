# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Tokens come one by one, over every protocol, and an engine knows at once when its client left."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator

import engines
import httpx2
import pytest
from edge_server import CHAT, Edge, chat
from http_client import request, tokens_of
from rendering import ALICE, MODEL, OTHER_MODEL

TOKENS = 20

each_edge = pytest.mark.parametrize(
    "model",
    [
        pytest.param(MODEL, marks=pytest.mark.variant("one"), id="one model"),
        pytest.param(OTHER_MODEL, marks=pytest.mark.variant("several"), id="several models"),
        pytest.param(OTHER_MODEL, marks=pytest.mark.variant("tls"), id="several models over TLS"),
    ],
)


def engine_of(edge: Edge, model: str) -> engines.Engine:
    """The engine that takes the request, told to wait for the test with each token."""
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
    for engine in edge.engines[:-1]:
        if engine.model == model:
            engine.behaviour = engines.full
    return edge.engines[-1]


@each_edge
def test_each_token_arrives_before_the_next_one_is_made(edge: Edge, model: str) -> None:
    engine = engine_of(edge, model)
    body = request("POST", CHAT, chat(model, stream=True), key=ALICE)
    with edge.connect() as connection, connection.stream(body) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        tokens = tokens_of(iter(response.readline, b""))
        for number in range(TOKENS):
            engine.emit(f"token {number}")
            assert next(tokens) == f"token {number}"
        engine.emit(None)
        assert list(tokens) == []


@pytest.fixture
def http2(trusting: ssl.SSLContext) -> Iterator[httpx2.Client]:
    with httpx2.Client(http1=False, http2=True, verify=trusting, timeout=20) as client:
        yield client


@contextlib.contextmanager
def streamed(edge: Edge, client: httpx2.Client, model: str) -> Iterator[httpx2.Response]:
    address = f"https://127.0.0.1:{edge.port}{CHAT}"
    key = {"Authorization": f"Bearer {ALICE}"}
    body = chat(model, stream=True)
    with client.stream("POST", address, headers=key, json=body) as response:
        assert response.http_version == "HTTP/2"
        yield response


@pytest.mark.variant("tls")
@pytest.mark.parametrize("model", [MODEL, OTHER_MODEL])
def test_each_token_arrives_alone_over_http2(edge: Edge, http2: httpx2.Client, model: str) -> None:
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
        # nginx sends the headers of HTTP/2 with the first token.
        engine.emit("token 0")
    with streamed(edge, http2, model) as response:
        [engine] = [one for one in edge.engines if one.generations]
        tokens = tokens_of(line.encode() for line in response.iter_lines())
        for number in range(TOKENS):
            assert next(tokens) == f"token {number}"
            engine.emit(f"token {number + 1}")
        assert next(tokens) == f"token {TOKENS}"
        engine.emit(None)
        assert list(tokens) == []


@pytest.mark.variant("tls")
@pytest.mark.parametrize(
    ("path", "key"), [(CHAT, ALICE), (CHAT, "0" * 48), ("/v1/unknown", ALICE), ("/healthz", ALICE)]
)
def test_a_body_that_is_too_large_is_a_413_over_http2(
    edge: Edge, trusting: ssl.SSLContext, path: str, key: str
) -> None:
    """Only its announced length is seen: nobody waits for the body."""
    address = f"https://127.0.0.1:{edge.port}{path}"
    headers = {"Authorization": f"Bearer {key}", "Content-Length": str(9 << 20)}
    with (
        httpx2.Client(http1=False, http2=True, verify=trusting, timeout=20) as client,
        client.stream("POST", address, headers=headers, content=iter([b"{"])) as response,
    ):
        content = response.read()
    assert response.http_version == "HTTP/2"
    assert (response.status_code, response.headers["content-type"]) == (413, "application/json")
    assert json.loads(content)["error"]["code"] == "request_too_large"


@pytest.mark.variant("tls")
def test_streams_of_one_http2_connection_do_not_wait_for_each_other(
    edge: Edge, http2: httpx2.Client
) -> None:
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
        engine.emit("begin")
    with streamed(edge, http2, MODEL) as first, streamed(edge, http2, OTHER_MODEL) as second:
        other = edge.engines[-1]
        other.emit("second", None)
        assert list(tokens_of(line.encode() for line in second.iter_lines())) == ["begin", "second"]
        [engine] = [one for one in edge.engines[:-1] if one.generations]
        engine.emit("first", None)
        assert list(tokens_of(line.encode() for line in first.iter_lines())) == ["begin", "first"]


def soon(seconds: Callable[[], float], limit: float) -> None:
    """The best of some turns, as the machine may have other things to do during one."""
    best = min(seconds() for _turn in range(8))
    assert best < limit, f"{best:.3f} s at best"


@each_edge
def test_an_engine_knows_at_once_when_its_client_left(edge: Edge, model: str) -> None:
    engine = engine_of(edge, model)
    body = request("POST", CHAT, chat(model, stream=True), key=ALICE)

    def seconds() -> float:
        with edge.connect() as connection, connection.stream(body) as response:
            engine.emit("token")
            assert next(tokens_of(iter(response.readline, b""))) == "token"
            seen = engine.generations[-1]
            connection.sock.close()
        left = time.monotonic()
        engine.wait_for(lambda _engine: seen.left is not None, "the edge leaves, too")
        return (seen.left or left) - left

    soon(seconds, 0.05)


@pytest.mark.variant("tls")
def test_an_engine_knows_at_once_when_an_http2_client_left(
    edge: Edge, trusting: ssl.SSLContext
) -> None:
    engine = edge.engines[-1]
    engine.behaviour = engines.on_demand

    def seconds() -> float:
        engine.emit("token")
        with (
            httpx2.Client(http1=False, http2=True, verify=trusting, timeout=20) as client,
            streamed(edge, client, OTHER_MODEL) as response,
        ):
            assert next(tokens_of(line.encode() for line in response.iter_lines())) == "token"
            seen = engine.generations[-1]
        left = time.monotonic()
        engine.wait_for(lambda _engine: seen.left is not None, "the edge leaves, too")
        return (seen.left or left) - left

    soon(seconds, 0.05)


@each_edge
def test_an_engine_that_has_not_answered_yet_knows_too(edge: Edge, model: str) -> None:
    for engine in edge.engines:
        engine.behaviour = engines.hang
    with edge.connect() as connection:
        connection.send(request("POST", CHAT, chat(model), key=ALICE))
        edge.engines[-1].wait_for(lambda _engine: bool(edge.seen()), "an engine is asked")
    [seen] = edge.seen()
    edge.engines[-1].wait_for(lambda _engine: seen.left is not None, "the edge leaves, too")


@each_edge
def test_answers_are_not_compressed(edge: Edge, model: str) -> None:
    # gzip gathers a stream of tokens into one block.
    body = chat(model, stream=True)
    answer = edge.ask("POST", CHAT, body, headers={"Accept-Encoding": "gzip, br"})
    assert answer.status == 200
    assert answer.headers["Content-Encoding"] is None
    assert answer.body.endswith(b"data: [DONE]\n\n")
