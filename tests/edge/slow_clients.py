# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Clients that send their request slowly or not at all, beside the tests of everything else.

nginx waits up to half a minute for them, and so would the tests, if they ran one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from edge_server import CHAT, Edge
from http_client import Connection
from rendering import ALICE

POST = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n".encode()

SENDERS: Mapping[str, tuple[bytes, bytes]] = {
    "a header letter by letter": (b"POST /", b"a"),
    "a header that stops": (POST, b""),
    "a body that stops": (POST + b"Content-Length: 9\r\n\r\n{", b""),
    "nothing at all": (b"", b""),
}
"""What is sent at once, and what after each second."""


@dataclass(frozen=True)
class Cut:
    """How the edge ended it: after how many seconds, and what it said."""

    seconds: float
    answer: bytes


class SlowClients:
    def __init__(self, edge: Edge) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(len(SENDERS))
        self._ends: dict[str, Future[Cut]] = {
            name: self._pool.submit(self._send, Connection(edge.port, edge.tls), *pieces)
            for name, pieces in SENDERS.items()
        }

    def end_of(self, name: str) -> Cut:
        return self._ends[name].result(120)

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown()

    def _send(self, connection: Connection, start: bytes, more: bytes) -> Cut:
        began = time.monotonic()
        received = b""
        with connection:
            connection.send(start)
            connection.sock.settimeout(1)
            while not self._stop.is_set():
                try:
                    part = connection.sock.recv(10_000)
                except TimeoutError:
                    part = None
                except OSError:
                    break
                if part == b"":
                    break
                received += part or b""
                if part is None and more:
                    try:
                        connection.send(more)
                    except OSError:
                        break
        return Cut(time.monotonic() - began, received)
