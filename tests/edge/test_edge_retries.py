# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A request goes elsewhere only while nothing can have been generated; clients are told which."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from typing import Any

import engines
import pytest
from edge_server import CHAT, Edge, chat
from engines import Engine, hang, in_turn, reply, reset, reset_in_stream, stream
from http_client import Answer, request, tokens_of
from rendering import ALICE

one_engine = pytest.mark.variant("one engine")
three_engines = pytest.mark.variant("three engines")
impatient = pytest.mark.variant("every path")
"""Waits one second for an engine."""

REQUESTS = 12


def ask_often(edge: Edge, **more: Any) -> list[Answer]:
    """Requests that the engines can tell apart."""
    return [edge.chat(user=f"number {number}", **more) for number in range(REQUESTS)]


def most_often(engine: Engine) -> int:
    """How often the engine has seen the request that it has seen most often."""
    return max(Counter(one.json["user"] for one in engine.generations).values(), default=0)


# 503: an engine refuses before it generates.


@pytest.mark.variant("one")
@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_engine_is_passed_over(edge: Edge, streamed: bool) -> None:
    first, second = edge.engines
    first.behaviour = engines.full
    assert [answer.status for answer in ask_often(edge, stream=streamed)] == [200] * REQUESTS
    assert len(second.generations) == REQUESTS
    assert first.generations, "no request was tried on the full engine first"
    assert most_often(first) == 1


@three_engines
def test_a_request_is_never_sent_again_to_the_engine_that_refused_it(edge: Edge) -> None:
    full, *_others = edge.engines
    full.behaviour = engines.full
    assert [answer.status for answer in ask_often(edge)] == [200] * REQUESTS
    assert most_often(full) == 1


@pytest.mark.parametrize("size", [10, 600_000, 3_000_000])
def test_the_body_is_whole_at_the_other_engine(edge: Edge, size: int) -> None:
    content = "x" * size
    for full, taking in (edge.engines, reversed(edge.engines)):
        edge.forget()
        full.behaviour = engines.full
        assert edge.chat(user=content).status == 200
        assert [one.json for one in taking.generations] == [chat(user=content)]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1, marks=one_engine),
        pytest.param(2, marks=pytest.mark.variant("one")),
        pytest.param(3, marks=three_engines),
    ],
)
def test_when_all_are_full_vllms_own_words_come_through(edge: Edge, count: int) -> None:
    assert len(edge.engines) == count
    for engine in edge.engines:
        engine.behaviour = engines.full
    for answer in ask_often(edge):
        assert (answer.status, answer.body) == (503, engines.FULL)
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Should-Retry"] is None
    assert {most_often(engine) for engine in edge.engines} == {1}
    assert sum(len(engine.generations) for engine in edge.engines) == REQUESTS * min(count, 2)


# Broken off or silent: an engine may have generated.


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_that_broke_off_is_not_repeated(edge: Edge, streamed: bool) -> None:
    for engine in edge.engines:
        engine.behaviour = reset
    answers = ask_often(edge, stream=streamed)
    for answer in answers:
        answer.refused(502, "bad_gateway")
        assert answer.headers["X-Should-Retry"] == "false"
        assert answer.headers["Retry-After"] is None
    assert len(edge.seen()) == REQUESTS


@impatient
def test_a_request_that_an_engine_was_silent_about_is_not_repeated(edge: Edge) -> None:
    for engine in edge.engines:
        engine.behaviour = hang
    answer = edge.chat()
    answer.refused(504, "gateway_timeout")
    assert answer.headers["X-Should-Retry"] == "false"
    [seen] = edge.seen()
    edge.engines[0].wait_for(lambda _engine: seen.left is not None, "the edge gives it up")


@pytest.mark.parametrize(
    ("second", "status", "code"),
    [(reset, 502, "bad_gateway"), (hang, 504, "gateway_timeout")],
    ids=["reset", "silent"],
)
@impatient
def test_what_goes_wrong_in_the_second_attempt_is_told_alike(
    edge: Edge, second: engines.Behaviour, status: int, code: str
) -> None:
    # Whichever is asked first refuses, the other one fails.
    turns = in_turn(engines.full, second)
    for engine in edge.engines:
        engine.behaviour = turns
    answer = edge.chat()
    answer.refused(status, code)
    assert answer.headers["X-Should-Retry"] == "false"
    assert [len(engine.generations) for engine in edge.engines] == [1, 1]


def test_a_refusal_whose_other_engine_is_down_is_a_503(edge: Edge) -> None:
    full, down = edge.engines
    full.behaviour = engines.full
    down.stop()
    for answer in ask_often(edge):
        assert answer.status == 503
        assert list(answer.json) == ["error"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Should-Retry"] is None
    assert most_often(full) == 1


def test_a_stream_that_broke_off_is_seen_to_be_cut_and_is_not_repeated(edge: Edge) -> None:
    for engine in edge.engines:
        engine.behaviour = reset_in_stream
    with (
        edge.connect() as connection,
        connection.stream(request("POST", CHAT, chat(stream=True), key=ALICE)) as response,
    ):
        tokens = tokens_of(iter(response.readline, b""))
        assert next(tokens) == "t0 "
        with pytest.raises((AssertionError, OSError, http.client.HTTPException)):
            next(tokens)
    assert len(edge.seen()) == 1


def test_a_stream_of_one_engine_survives_the_death_of_the_other(edge: Edge) -> None:
    dying, other = edge.engines
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
    with edge.connect() as first, edge.connect() as second:
        for connection in (first, second):
            connection.send(request("POST", CHAT, chat(stream=True), key=ALICE))
        for engine in edge.engines:
            engine.wait_for(lambda one: len(one.requests) == 1, "each engine has a stream")
        dying.stop()
        other.emit("alive ", None)
        bodies = []
        for connection in (first, second):
            try:
                bodies.append(connection.receive().body)
            except (OSError, http.client.HTTPException):
                bodies.append(b"")
    assert sum(b"[DONE]" in body for body in bodies) == 1
    dying.behaviour = other.behaviour = engines.as_vllm
    assert edge.chat().status == 200


# Nobody there: nothing can have been generated.


def test_an_engine_that_is_down_is_passed_over(edge: Edge) -> None:
    edge.engines[0].stop()
    assert [answer.status for answer in ask_often(edge)] == [200] * REQUESTS


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1, marks=one_engine),
        pytest.param(2, marks=pytest.mark.variant("one")),
        pytest.param(2, marks=pytest.mark.variant("other host")),
        pytest.param(3, marks=pytest.mark.variant("several")),
    ],
)
def test_when_all_are_down_clients_may_ask_again_and_soon_succeed(edge: Edge, count: int) -> None:
    assert len(edge.engines) == count
    for engine in edge.engines:
        engine.stop()
    for answer in ask_often(edge):
        answer.refused(503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Should-Retry"] is None
    for engine in edge.engines:
        engine.start()
    back = time.monotonic()
    while edge.chat().status != 200:
        assert time.monotonic() - back < 1, "no success within a second after all were back"


def test_a_list_of_models_is_asked_for_again(edge: Edge) -> None:
    # Nothing is generated, whatever happens.
    edge.engines[0].behaviour = reset
    answers = [edge.ask("GET", "/v1/models").status for _turn in range(REQUESTS)]
    assert answers == [200] * REQUESTS


def test_a_malformed_answer_is_a_502(edge: Edge) -> None:
    async def babble(call: engines.Call) -> None:
        await call.send(b"HTTP/1.1 200 X\r\nno colon\x00\r\n\r\n")
        call.closed = True

    for engine in edge.engines:
        engine.behaviour = babble
    edge.chat().refused(502, "bad_gateway")
    assert len(edge.seen()) == 1


def test_an_answer_may_be_large(edge: Edge) -> None:
    large = {"text": "x" * 5_000_000}
    for engine in edge.engines:
        engine.behaviour = reply(200, large)
    answer = edge.chat()
    assert answer.body == json.dumps(large).encode()


def test_a_stream_is_not_counted_as_silence_while_tokens_come(edge: Edge) -> None:
    for engine in edge.engines:
        engine.behaviour = stream(5, 0.05)
    assert edge.chat(stream=True).body.endswith(b"data: [DONE]\n\n")
