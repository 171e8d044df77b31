# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Streams go on under a new configuration, a drained engine and a new nginx: 0 are cut."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import engines
import pytest
from edge_server import CHAT, Edge, chat
from http_client import Connection, request, tokens_of
from rendering import ALICE, Rendering

STREAMS = 40
TOKENS = 10


@pytest.fixture
def edge(edge: Edge, renderings: dict[str, Rendering]) -> Iterator[Edge]:
    """With its own configuration again when the test is over."""
    yield edge
    edge.reload(renderings["one"])


@contextmanager
def streams(edge: Edge) -> Iterator[list[Future[list[str]]]]:
    """Streams that have begun, and that end when the block does."""
    for engine in edge.engines:
        engine.behaviour = engines.on_demand
    begun = threading.Semaphore(0)

    def read() -> list[str]:
        body = request("POST", CHAT, chat(stream=True), key=ALICE)
        with edge.connect() as connection, connection.stream(body) as response:
            begun.release()
            return list(tokens_of(iter(response.readline, b"")))

    with ThreadPoolExecutor(STREAMS) as pool:
        futures = [pool.submit(read) for _stream in range(STREAMS)]
        for _stream in range(STREAMS):
            assert begun.acquire(timeout=engines.PATIENCE), "not all streams begin"
        yield futures
        for engine in edge.engines:
            for _token in range(TOKENS):
                engine.emit(*["more"] * 2 * STREAMS)
            engine.emit(*[None] * 2 * STREAMS)


def taken(edge: Edge) -> list[int]:
    return [len(engine.generations) for engine in edge.engines]


def test_streams_go_on_while_an_engine_is_drained_and_comes_back(
    edge: Edge, renderings: dict[str, Rendering]
) -> None:
    first, second = edge.engines
    with streams(edge) as running:
        assert sum(taken(edge)) == STREAMS
        assert min(taken(edge)) > 0
        for name, drained, other in (
            ("one, first drained", first, second),
            ("one, second drained", second, first),
        ):
            edge.reload(renderings[name])
            before = len(drained.generations)
            other.behaviour = engines.as_vllm
            assert [edge.chat().status for _turn in range(10)] == [200] * 10
            assert len(drained.generations) == before
            other.behaviour = engines.on_demand
        edge.reload(renderings["one"])
        assert not any(stream.done() for stream in running)
    assert all(stream.result() for stream in running)


def test_an_idle_connection_survives_or_is_seen_to_be_closed(edge: Edge) -> None:
    with edge.connect() as kept:
        assert kept.ask(request("POST", CHAT, chat(), key=ALICE)).status == 200
        edge.reload()
        if not kept.is_closed():
            kept.sock.settimeout(10)
            assert kept.ask(request("POST", CHAT, chat(), key=ALICE)).status == 200


def test_no_new_client_is_refused_while_workers_change(edge: Edge) -> None:
    stop = threading.Event()

    def ask() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(edge.chat().status)
            time.sleep(0.002)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _client in range(4)]
        for _turn in range(3):
            edge.reload()
        stop.set()
    assert {status for client in clients for status in client.result()} == {200}


def test_a_configuration_that_is_broken_changes_nothing(edge: Edge) -> None:
    path = edge.path("/etc/nginx/vllm/healthz.conf")
    before = path.read_text()
    workers = edge.workers()
    path.write_text("location = /healthz { nonsense; }\n")
    try:
        edge.signal(signal.SIGHUP)
        edge.wait_until(lambda: "nonsense" in edge.error_log(), "nginx refuses it")
        assert edge.workers() <= workers
        assert edge.chat().status == 200
    finally:
        path.write_text(before)
        edge.expect_errors()


def test_stopping_lets_streams_end_and_takes_no_new_ones(running: Callable[[str], Edge]) -> None:
    # As systemd stops it: see nginx.service.d.conf.j2.
    edge = running("one engine")
    edge.forget()
    [engine] = edge.engines
    engine.behaviour = engines.on_demand
    body = request("POST", CHAT, chat(stream=True), key=ALICE)
    with edge.connect() as connection, connection.stream(body) as response:
        engine.emit("first")
        tokens = tokens_of(iter(response.readline, b""))
        assert next(tokens) == "first"
        edge.signal(signal.SIGQUIT)
        edge.wait_until(lambda: refuses(edge), "nginx takes nobody any more")
        engine.emit("last", None)
        assert list(tokens) == ["last"]
    edge.stop()
    edge.start()
    edge.forget()
    assert edge.chat().status == 200


def test_a_request_that_a_reload_ended_is_logged_as_json(edge: Edge) -> None:
    """After worker_shutdown_timeout; nginx has no status for it."""
    configuration = edge.path("/etc/nginx/nginx.conf")
    text, changed = re.subn(r"(?<=worker_shutdown_timeout )\d+s", "1s", configuration.read_text())
    assert changed == 1
    configuration.write_text(text)
    edge.reload()
    for engine in edge.engines:
        engine.behaviour = engines.reply(200, {}, delay=engines.PATIENCE)
    with edge.connect() as connection:
        connection.send(request("POST", CHAT, chat(), key=ALICE))
        edge.wait_until(lambda: bool(edge.seen()), "an engine has the request")
        edge.reload()
        [seen] = edge.seen()
        assert edge.logged(seen.header("X-Request-Id"))["status"] == 0


def refuses(edge: Edge) -> bool:
    try:
        Connection(edge.port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_new_binary_takes_over_under_streams(edge: Edge) -> None:
    # As the package does when it is upgraded: USR2, then QUIT to the old master.
    with streams(edge) as running:
        edge.take_over()
        assert not any(stream.done() for stream in running)
        for engine in edge.engines:
            engine.behaviour = engines.as_vllm
        assert [edge.chat().status for _turn in range(10)] == [200] * 10
    assert all(stream.result() for stream in running)


def test_nginx_starts_over_what_a_killed_one_left(running: Callable[[str], Edge]) -> None:
    edge = running("one engine")
    edge.kill()
    edge.start()
    edge.forget()
    assert edge.chat().status == 200
