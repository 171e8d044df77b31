# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What one client may take from the others: rate, burst, and requests at a time.

Each client's allowance is used up in one test only: no test waits for it to come back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import engines
import pytest
from edge_server import CHAT, Edge, chat
from http_client import Answer, Connection, request
from rendering import ALICE, BOB, BOB_NEXT, CAROL, DAVE, ERIN

VARIANT = "limits"


def refused(answer: Answer) -> None:
    error = answer.refused(429, "rate_limit_exceeded")
    assert error["type"] == "requests"
    assert int(answer.headers["Retry-After"]) >= 1
    # OpenAI's clients repeat a 429 by themselves, and may.
    assert answer.headers["X-Should-Retry"] is None


@pytest.mark.parametrize(
    ("keys", "burst"),
    [((ALICE,), 4), ((BOB, BOB_NEXT), 9)],
    ids=["the limits of all", "limits of its own, whichever of its keys is used"],
)
def test_a_client_has_its_rate_and_its_burst(edge: Edge, keys: tuple[str, ...], burst: int) -> None:
    began = time.monotonic()
    answers = [edge.chat(keys[number % len(keys)]) for number in range(20)]
    gained = int(time.monotonic() - began) + 1
    passed = [answer for answer in answers if answer.status == 200]
    # One, the burst, and one for every second that it took.
    assert 1 + burst <= len(passed) <= 1 + burst + gained
    for answer in answers:
        if answer not in passed:
            refused(answer)
    assert len(edge.seen()) == len(passed)
    # Another client is not concerned.
    assert edge.chat(CAROL).status == 200


def test_a_client_may_have_no_rate(edge: Edge) -> None:
    assert [edge.chat(CAROL).status for _turn in range(40)] == [200] * 40


@pytest.fixture
def held(edge: Edge) -> Iterator[Callable[[str], Connection]]:
    """Opens a stream of a client that has begun and goes on until the test ends."""
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
    begun: list[engines.Request] = []
    with contextlib.ExitStack() as stack:

        def hold(key: str) -> Connection:
            before = set(map(id, edge.seen()))
            connection = stack.enter_context(edge.connect())
            connection.send(request("POST", CHAT, chat(stream=True), key=key))
            edge.engines[0].wait_for(lambda _any: len(edge.seen()) > len(before), "a stream begins")
            begun.extend(one for one in edge.seen() if id(one) not in before)
            return connection

        yield hold
    # Until then nginx counts them, and the next test would be refused.
    edge.wait_until(lambda: all(one.left is not None for one in begun), "the streams end")


def again(edge: Edge, key: str) -> bool:
    """Whether the edge soon takes a request: it learns by and by that others have ended."""
    for engine in edge.engines:
        engine.behaviour = engines.as_vllm
    deadline = time.monotonic() + engines.PATIENCE
    while edge.chat(key).status != 200:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(
    ("key", "limit"), [(DAVE, 3), (CAROL, 6)], ids=["the limit of all", "a limit of its own"]
)
def test_a_client_has_so_many_requests_at_a_time(
    edge: Edge, held: Callable[[str], Connection], key: str, limit: int
) -> None:
    streams = [held(key) for _turn in range(limit)]
    refused(edge.chat(key))
    assert len(edge.seen()) == limit
    streams[0].close()
    assert again(edge, key)


def test_an_address_has_so_many_requests_at_a_time(
    edge: Edge, held: Callable[[str], Connection]
) -> None:
    streams = [held(ERIN) for _turn in range(8)]
    for key in (ERIN, CAROL):
        refused(edge.chat(key))
    assert len(edge.seen()) == 8
    streams[0].close()
    assert again(edge, CAROL)


@pytest.mark.variant("few connections")
def test_a_worker_takes_no_more_than_it_has_connections_for(edge: Edge) -> None:
    """nginx's own answer would be a 500 in HTML, which no client may repeat."""
    for engine in edge.engines:
        engine.behaviour = engines.stream(2, 3)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(edge.connect()) for _turn in range(40)]
        for connection in connections:
            connection.send(request("POST", CHAT, chat(stream=True), key=ALICE))
        answers = [connection.receive() for connection in connections]
    passed = [answer for answer in answers if answer.status == 200]
    # 16 of each of two workers, and the kernel chooses the worker.
    assert 16 <= len(passed) <= 32
    for answer in answers:
        if answer not in passed:
            refused(answer)
    assert edge.chat().status == 200


def test_requests_that_never_end_are_counted(edge: Edge) -> None:
    # A byte now and then: nginx waits for such a body for ever.
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nAuthorization: Bearer {ERIN}"
    with contextlib.ExitStack() as stack:

        def send_slowly() -> None:
            stack.enter_context(edge.connect()).send(head.encode() + b"\r\n\r\n{")

        for _turn in range(8):
            send_slowly()
        deadline = time.monotonic() + engines.PATIENCE
        while (answer := edge.chat(CAROL)).status == 200:
            assert time.monotonic() < deadline, "slow senders are not bounded"
            # One of the eight was refused if a request before them was still counted.
            send_slowly()
            time.sleep(0.05)
        refused(answer)
    assert again(edge, CAROL)
