# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A client that sends exactly what a test says, well-formed or not."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TIMEOUT = 15.0
"""Seconds; tests of what the edge waits longer for set their own."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def refused(self, status: int, code: str | None = None) -> dict[str, Any]:
        """The error, which has OpenAI's shape.

        :raises AssertionError: it is none, another one, or has another shape.
        """
        assert self.status == status, (self.status, self.body[:300])
        assert self.headers.get_content_type() == "application/json", self.body[:300]
        assert list(self.json) == ["error"]
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        if code is not None:
            assert error["code"] == code
        return dict(error)


class Connection:
    """A connection to an edge, kept until it is closed."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(plain, server_hostname="edge.example.net") if tls else plain

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, content: bytes) -> None:
        self.sock.sendall(content)

    def receive(self, method: str = "POST") -> Answer:
        began = time.monotonic()
        response = http.client.HTTPResponse(self.sock, method=method)
        try:
            response.begin()
            body = response.read()
            return Answer(response.status, response.headers, body, time.monotonic() - began)
        finally:
            response.close()

    def ask(self, content: bytes) -> Answer:
        self.send(content)
        return self.receive()

    def is_closed(self) -> bool:
        """Whether the edge has closed it, seen within a second."""
        self.sock.settimeout(1)
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    @contextlib.contextmanager
    def stream(self, content: bytes) -> Iterator[http.client.HTTPResponse]:
        """An answer that is read line by line."""
        self.send(content)
        response = http.client.HTTPResponse(self.sock, method="POST")
        try:
            response.begin()
            yield response
        finally:
            response.close()


def request(
    method: str,
    target: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a request; a body that is not bytes is sent as JSON."""
    lines = [f"{method} {target} HTTP/1.1", "Host: edge.example.net"]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def tokens_of(lines: Iterator[bytes]) -> Iterator[str]:
    """The texts of a stream as they come; ``[DONE]`` ends it.

    :raises AssertionError: the stream ended without it.
    """
    for line in lines:
        if line.strip() == b"data: [DONE]":
            return
        if line.startswith(b"data: "):
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if delta.get("content"):
                yield delta["content"]
    raise AssertionError("the stream was cut: there was no [DONE]")
