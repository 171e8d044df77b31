# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Engines on loopback that answer in vLLM's shapes, or as badly as a test wants.

All run in one event loop of a thread of its own. A behaviour is a coroutine that gets a
:class:`Call`; the functions at the end of this file make them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""


@dataclass
class Request:
    """What an engine was asked, and how it ended for the engine."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    began: float = field(default_factory=time.monotonic)
    left: float | None = None
    """When the edge was seen to give up the request, in seconds of ``time.monotonic``."""

    def header(self, name: str) -> str | None:
        """:raises AssertionError: the header came more than once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Call:
    """A request that a behaviour answers."""

    def __init__(self, engine: Engine, request: Request, writer: asyncio.StreamWriter) -> None:
        self.engine = engine
        self.request = request
        self.closed = False
        self._writer = writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        fields = {"content-type": "application/json", "content-length": str(len(body))}
        await self.send(_head(status, fields | dict(headers or {})) + body)

    async def begin_stream(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        fields = {"content-type": content_type, "transfer-encoding": "chunked"}
        await self.send(_head(200, fields))

    async def event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        await self.chunk(f"data: {text}\n\n".encode())

    async def chunk(self, content: bytes) -> None:
        await self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Break the connection off as the kernel of a killed process does."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        self.closed = True


Behaviour = Callable[[Call], Awaitable[None]]
Result = TypeVar("Result")


class Loop:
    """The event loop of the engines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Engine:
    """Serves one model on one port. By default it answers as vLLM does."""

    def __init__(self, loop: Loop, model: str, port: int) -> None:
        self.model = model
        self.port = port
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._silence = contextlib.ExitStack()
        self._tokens: asyncio.Queue[str | None] = asyncio.Queue()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections = 0
        self.keep_alive = 120.0
        self.reset()

    def reset(self) -> None:
        """Forget everything, and answer as vLLM does again."""
        self.behaviour: Behaviour = as_vllm
        self.requests: list[Request] = []
        self.closed_idle = 0
        """Connections that the engine, not the edge, closed because they were idle."""
        self.keep_alive = 120.0
        self._tokens = asyncio.Queue()

    @property
    def generations(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def start(self) -> None:
        async def start() -> asyncio.Server:
            return await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, reuse_address=True, limit=1 << 24, backlog=4096
            )

        self._silence.close()
        if self._server is None:
            self._server = self._loop.run(start())

    def stop(self) -> None:
        """Connections are refused from now on, and those that are open break off."""
        self._silence.close()

        async def stop() -> None:
            assert self._server
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()

        if self._server is not None:
            self._loop.run(stop())
            self._server = None

    def fall_silent(self) -> None:
        """Nobody answers those who want to connect from now on, as on a host without power."""
        self.stop()
        listening = socket.create_server(("127.0.0.1", self.port), backlog=0)
        self._silence.enter_context(listening)
        # They fill the queue of those that wait to be accepted: the kernel drops what comes then.
        for _waiting in range(2):
            client = self._silence.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())

    def emit(self, *tokens: str | None) -> None:
        """Let :func:`on_demand` send tokens; None ends its stream."""

        async def emit() -> None:
            for token in tokens:
                self._tokens.put_nowait(token)

        self._loop.run(emit())

    async def next_token(self) -> str | None:
        return await self._tokens.get()

    def wait_for(self, condition: Callable[[Engine], bool], what: str) -> None:
        """
        :raises AssertionError: it did not come true.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition(self):
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
            time.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        self._writers.add(writer)
        try:
            while request := await self._read(reader, number):
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Request | None:
        try:
            async with asyncio.timeout(self.keep_alive):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            self.closed_idle += 1
            return None
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _protocol = first.split(" ")
        headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
        lengths = [int(value) for name, value in headers if name.lower() == "content-length"]
        body = await reader.readexactly(sum(lengths[:1]))
        return Request(method, target, headers, body, number)

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection can take another request."""
        call = Call(self, request, writer)
        answering = asyncio.ensure_future(self.behaviour(call))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            request.left = time.monotonic()
        for task in (answering, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await task
        return request.left is None and not call.closed


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# What vLLM says; its words are those of 0.33.0.


def error_body(message: str, kind: str, status: int) -> bytes:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": error}).encode()


FULL = error_body("The engine is overloaded; please try again later.", "ServiceUnavailable", 503)


async def as_vllm(call: Call) -> None:
    """Answers to everything that the edge may pass on."""
    path = call.request.target.partition("?")[0]
    if call.request.method == "GET" and path == "/v1/models":
        model = {"id": call.engine.model, "object": "model", "created": 1, "owned_by": "vllm"}
        await _json(call, {"object": "list", "data": [model]})
    elif path.startswith("/v1/responses/"):
        missing = "Response with id was not found"
        await call.answer(404, error_body(missing, "NotFoundError", 404))
    elif call.request.method != "POST":
        await call.answer(404, b'{"detail":"Not Found"}')
    elif (asked := _body(call)) is None:
        message = "There was an error parsing the body"
        await call.answer(400, error_body(message, "Bad Request", 400))
    elif asked.get("stream"):
        await _stream(call, tuple(f"t{number} " for number in range(5)), 0)
    else:
        await _json(call, completion(call.engine.model, "Hello"))


def _body(call: Call) -> dict[str, Any] | None:
    try:
        body = json.loads(call.request.body or b"{}")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def completion(model: str, text: str, **message: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "tool_calls" if message else "stop",
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {
        **{"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model},
        **{"choices": [choice], "usage": usage},
    }


def chunk_of(model: str, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        **{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model},
        "choices": [choice],
    }


async def _json(call: Call, value: Any) -> None:
    await call.answer(200, json.dumps(value).encode())


async def _stream(call: Call, tokens: tuple[str, ...], gap: float) -> None:
    await call.begin_stream()
    for token in tokens:
        await asyncio.sleep(gap)
        await call.event(chunk_of(call.engine.model, {"content": token}))
    await call.event(chunk_of(call.engine.model, {}, "stop"))
    await call.event("[DONE]")
    await call.end_stream()


# Behaviours.


def reply(
    status: int, body: Any, headers: Mapping[str, str] | None = None, delay: float = 0
) -> Behaviour:
    """An answer of its own; anything but bytes is sent as JSON."""

    async def behave(call: Call) -> None:
        await asyncio.sleep(delay)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await call.answer(status, content, headers)

    return behave


full = reply(503, FULL)
"""Refuses a request before it generates."""


def stream(tokens: int, gap: float) -> Behaviour:
    """Numbered tokens, each after ``gap`` seconds."""
    texts = tuple(f"t{number} " for number in range(tokens))

    async def behave(call: Call) -> None:
        await _stream(call, texts, gap)

    return behave


def events(*datas: Any) -> Behaviour:
    async def behave(call: Call) -> None:
        await call.begin_stream()
        for data in datas:
            await call.event(data)
        await call.end_stream()

    return behave


async def on_demand(call: Call) -> None:
    """A stream whose tokens come when the test says so: see :meth:`Engine.emit`."""
    await call.begin_stream()
    while (token := await call.engine.next_token()) is not None:
        await call.event(chunk_of(call.engine.model, {"content": token}))
        # The next one may be for another stream.
        await asyncio.sleep(0)
    await call.event("[DONE]")
    await call.end_stream()


async def hang(_call: Call) -> None:
    """Takes a request and says nothing."""
    await asyncio.sleep(3600)


async def reset(call: Call) -> None:
    """Takes a request and breaks off."""
    call.reset()


async def reset_in_stream(call: Call) -> None:
    await call.begin_stream()
    await call.event(chunk_of(call.engine.model, {"content": "t0 "}))
    # So that the edge has passed the token on.
    await asyncio.sleep(0.1)
    call.reset()


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour for each request, the last one for all that follow."""
    left = list(behaviours)

    async def behave(call: Call) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(call)

    return behave
