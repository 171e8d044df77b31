# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How many requests there may be at a time: words for who has too many, files for all others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import engines
import pytest
from edge_server import CHAT, Edge, chat
from http_client import Connection, request
from rendering import ALICE, CAROL, ERIN, FRANK, Rendering


@pytest.fixture
def held(edge: Edge) -> Iterator[Callable[[str], Connection]]:
    """Opens a stream of a client that has begun and goes on until the test ends."""
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
    with contextlib.ExitStack() as stack:

        def hold(key: str) -> Connection:
            connection = stack.enter_context(edge.connect())
            connection.send(request("POST", CHAT, chat(stream=True), key=key))
            assert connection.sock.recv(12) == b"HTTP/1.1 200"
            return connection

        yield hold
    edge.engines[0].wait_for(
        lambda _any: all(one.left is not None for one in edge.seen()), "the edge gives them up"
    )


@pytest.mark.variant("limits")
@pytest.mark.parametrize(("key", "most"), [(CAROL, 6), (ERIN, 8)], ids=["client", "address"])
def test_too_many_at_a_time_is_told_from_too_many_in_a_second(
    edge: Edge, held: Callable[[str], Connection], key: str, most: int
) -> None:
    for _turn in range(most):
        held(key)
    at_a_time = edge.chat(key).refused(429, "rate_limit_exceeded")
    assert "at a time" in at_a_time["message"]


@pytest.mark.variant("limits")
def test_too_many_in_a_second_are_called_so(edge: Edge) -> None:
    answers = [edge.chat(FRANK) for _turn in range(6)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    for answer in refused:
        message = answer.refused(429, "rate_limit_exceeded")["message"]
        assert message == "Too many requests."


@pytest.mark.variant("one")
def test_one_address_may_have_what_two_engines_take(
    edge: Edge, held: Callable[[str], Connection]
) -> None:
    # vLLM takes 256 at a time by itself, and a benchmark or an application is one address.
    for _turn in range(512):
        held(ALICE)


def limits(pid: int) -> tuple[int, int]:
    """How many files a process may open, and the most that it may be given."""
    with open(f"/proc/{pid}/limits") as file:
        [line] = [line for line in file if line.startswith("Max open files")]
    found = re.findall(r"\d+", line)
    return int(found[0]), int(found[1])


def test_workers_may_open_the_files_that_their_connections_need(edge: Edge) -> None:
    # Whatever the nginx was started with that ran before the role came.
    for worker in edge.workers():
        files, most = limits(worker)
        assert files == most == 2 * 8192 + 512
    assert "setrlimit" not in edge.error_log()


def test_the_unit_allows_the_files_of_workers(renderings: dict[str, Rendering]) -> None:
    tree = renderings["one"].tree
    unit = (tree / "etc/systemd/system/nginx.service.d/vllm.conf").read_text()
    nginx = (tree / "etc/nginx/nginx.conf").read_text()
    [allowed] = re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    [wanted] = re.findall(r"^worker_rlimit_nofile (\d+);$", nginx, re.MULTILINE)
    [connections] = re.findall(r"worker_connections (\d+);", nginx)
    assert int(connections) < int(wanted) <= int(allowed)
