# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An engine that costs next to nothing: it answers as vLLM does, but for the thinking.

As vLLM it sends the headers of a stream before the first token, one chunk for each token, and
closes a connection that has been idle for `keep_alive` seconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event

_HEADERS = b"HTTP/1.1 200 OK\r\nserver: engine\r\ncontent-type: %s\r\n%s\r\n\r\n"
_STREAM = _HEADERS % (b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _event(choice: dict[str, object]) -> bytes:
    head = {"id": "chatcmpl-0123456789abcdef0123456789abcdef", "object": "chat.completion.chunk"}
    event = {**head, "created": 1790000000, "model": "model", "choices": [choice]}
    return _chunk(b"data: %s\n\n" % json.dumps(event).encode())


_TOKEN = _event(
    {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
)
_END = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _whole_answer() -> bytes:
    message = {"role": "assistant", "content": "token " * 20}
    answer = {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    body = json.dumps(answer).encode()
    return _HEADERS % (b"application/json", b"content-length: %d" % len(body)) + body


_WHOLE = _whole_answer()


@dataclass(frozen=True)
class Behaviour:
    """All in seconds, of one answer and of idle connections."""

    first_token: float = 0.02
    between_tokens: float = 0.01
    keep_alive: float = 120


class Engine:
    """One engine in the running loop; `peak` is the most streams that it had at a time."""

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        self.port = port
        self.behaviour = behaviour
        self.peak = 0
        self.connections: set[_Served] = set()
        self._in_flight = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Served(self), "127.0.0.1", self.port, backlog=1024
        )

    def stop(self) -> None:
        """Refuse new connections and break off what there are, as a killed process does."""
        if self._server:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def begin_stream(self) -> None:
        self._in_flight += 1
        self.peak = max(self.peak, self._in_flight)

    def end_stream(self) -> None:
        self._in_flight -= 1


class _Served(asyncio.Protocol):
    """A connection. Like uvicorn, it stops its idle timer as soon as anything arrives."""

    transport: asyncio.Transport

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._next_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.connections.discard(self)
        self._stop_timer()
        if self._left:
            self._left = 0
            self._engine.end_stream()

    def abort(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._stop_timer()
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        self._answer(json.loads(body))

    def _answer(self, request: dict[str, object]) -> None:
        if not request.get("stream"):
            self.transport.write(_WHOLE)
            self._wait_for_the_next()
            return
        tokens = request["max_tokens"]
        assert isinstance(tokens, int)
        self._engine.begin_stream()
        self._left = tokens
        self.transport.write(_STREAM)
        self._next_at = self._loop.time() + self._engine.behaviour.first_token
        self._timer = self._loop.call_at(self._next_at, self._token)

    def _token(self) -> None:
        self._left -= 1
        if self._left:
            self.transport.write(_TOKEN)
            self._next_at += self._engine.behaviour.between_tokens
            self._timer = self._loop.call_at(self._next_at, self._token)
            return
        self.transport.write(_TOKEN + _END)
        self._engine.end_stream()
        self._wait_for_the_next()

    def _wait_for_the_next(self) -> None:
        keep_alive = self._engine.behaviour.keep_alive
        self._timer = self._loop.call_later(keep_alive, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


@contextmanager
def in_a_process(behaviours: Mapping[int, Behaviour]) -> Iterator[None]:
    """Run the engine of each port in one process, which is not the client's."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_serve, args=(behaviours, ready), daemon=True)
    process.start()
    try:
        if not ready.wait(timeout=10):
            raise RuntimeError("the engines do not listen")
        yield
    finally:
        process.terminate()
        process.join()


def _serve(behaviours: Mapping[int, Behaviour], ready: Event) -> None:
    asyncio.run(_run(behaviours, ready))


async def _run(behaviours: Mapping[int, Behaviour], ready: Event) -> None:
    for port, behaviour in behaviours.items():
        await Engine(port, behaviour).start()
    without_collector()
    ready.set()
    parent = multiprocessing.parent_process()
    assert parent
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(parent.sentinel, gone.set)
    await gone.wait()


@asynccontextmanager
async def here(ports: Iterable[int], behaviour: Behaviour) -> AsyncIterator[list[Engine]]:
    """Run engines in the loop of the client, which sees and rules them."""
    engines = [Engine(port, behaviour) for port in ports]
    for engine in engines:
        await engine.start()
    try:
        yield engines
    finally:
        for engine in engines:
            engine.stop()


def without_collector() -> None:
    """Its pauses would be taken for the edge's."""
    gc.collect()
    gc.freeze()
    gc.disable()
