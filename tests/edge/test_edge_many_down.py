# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Engines that are down have the fewest requests and are asked first: all but one may be down."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import engines
import pytest
from edge_server import CHAT, Edge, chat
from http_client import Connection, request
from rendering import ALICE

VARIANT = "three engines"

AT_A_TIME = 12


@contextlib.contextmanager
def asked_at_once(edge: Edge) -> Iterator[list[Connection]]:
    """One at a time goes round, and would miss what is down."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(edge.connect()) for _turn in range(AT_A_TIME)]
        for number, connection in enumerate(connections):
            body = chat(stream=True, user=f"number {number}")
            connection.send(request("POST", CHAT, body, key=ALICE))
        yield connections


@pytest.mark.parametrize("left", [0, 1, 2])
def test_one_engine_serves_while_all_others_are_down(edge: Edge, left: int) -> None:
    serving = edge.engines[left]
    serving.behaviour = engines.stream(5, 0.05)
    for engine in edge.engines:
        if engine is not serving:
            engine.stop()
    with asked_at_once(edge) as connections:
        answers = [connection.receive() for connection in connections]
    assert [answer.status for answer in answers] == [200] * AT_A_TIME
    assert all(answer.body.endswith(b"data: [DONE]\n\n") for answer in answers)
    assert len(serving.generations) == AT_A_TIME


@pytest.mark.variant("five other hosts")
def test_one_engine_serves_while_all_other_hosts_are_silent(edge: Edge) -> None:
    """Each takes two seconds to be given up. Of some requests in a row one meets all of them."""
    for engine in edge.engines[1:]:
        engine.fall_silent()
    answers = [edge.chat() for _turn in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert 6 < max(answer.seconds for answer in answers) < 10


@pytest.mark.parametrize("left", [0, 1, 2])
def test_an_engine_that_refused_is_not_asked_again_when_others_are_down(
    edge: Edge, left: int
) -> None:
    full = edge.engines[left]
    full.behaviour = engines.reply(503, engines.FULL, delay=0.05)
    for engine in edge.engines:
        if engine is not full:
            engine.stop()
    with asked_at_once(edge) as connections:
        answers = [connection.receive() for connection in connections]
    for answer in answers:
        answer.refused(503)
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["X-Should-Retry"] is None
    times_asked = Counter(one.json["user"] for one in full.generations)
    assert len(times_asked) == AT_A_TIME
    assert set(times_asked.values()) == {1}


def test_what_one_refuses_another_takes_while_the_third_is_down(edge: Edge) -> None:
    full, taking, down = edge.engines
    full.behaviour = engines.reply(503, engines.FULL, delay=0.02)
    taking.behaviour = engines.stream(3, 0.05)
    down.stop()
    with asked_at_once(edge) as connections:
        assert [connection.receive().status for connection in connections] == [200] * AT_A_TIME
    assert full.generations, "no request was tried on the full engine first"
    assert max(Counter(one.json["user"] for one in full.generations).values()) == 1
