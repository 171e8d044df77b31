# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A client that reads as little as it must and notes when every token came."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from rendering import MODEL

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_STATUS = slice(9, 12)


@dataclass
class Answer:
    """`status` is 0 where the connection ended before the answer did. Times in seconds."""

    status: int = 0
    took: float = 0
    tokens: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def first_token(self) -> float:
        return self.tokens[0]

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in zip(self.tokens, self.tokens[1:], strict=False)]


def chat(key: str, *, tokens: int = 0) -> bytes:
    """The request for a chat completion, as a stream if `tokens` are wanted."""
    question = {"role": "user", "content": "Why is the sky blue? " * 10}
    body: dict[str, object] = {"model": MODEL, "messages": [question]}
    if tokens:
        body |= {"stream": True, "max_tokens": tokens}
    content = json.dumps(body)
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: api.example.net",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Accept: application/json",
        f"Content-Length: {len(content)}",
        "",
        content,
    ]
    return "\r\n".join(lines).encode()


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request at a time."""

    def __init__(self, answered: Callable[[Connection, Answer], None]) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._began = 0.0
        self._received = b""

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish(0)

    def send(self, request: bytes) -> None:
        assert self._transport and not self._answer
        self._answer = Answer()
        self._received = b""
        self._began = perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now = perf_counter() - self._began
        if not self._answer:
            return
        self._received += data
        events = self._received.count(b"data: {")
        self._answer.tokens.extend([now] * (events - len(self._answer.tokens)))
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if body.endswith(b"0\r\n\r\n") if length is None else len(body) >= int(length[1]):
            self._finish(int(head[_STATUS]))

    def _finish(self, status: int) -> None:
        if answer := self._answer:
            self._answer = None
            answer.status, answer.took = status, perf_counter() - self._began
            self._answered(self, answer)


class Client:
    """Asks one server over one connection, which is opened anew where it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None
        self._waiting: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        if not self._connection or not self._connection.is_open:
            self._connection = await connect(self._port, self._done)
        self._waiting = loop.create_future()
        self._connection.send(request)
        return await self._waiting

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    def _done(self, _connection: Connection, answer: Answer) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(answer)


async def connect(port: int, answered: Callable[[Connection, Answer], None]) -> Connection:
    loop = asyncio.get_running_loop()
    _transport, connection = await loop.create_connection(
        lambda: Connection(answered), "127.0.0.1", port
    )
    return connection
