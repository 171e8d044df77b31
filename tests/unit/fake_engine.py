# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A server on loopback that answers as vLLM does, or as badly as a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reply:
    """What comes back: a status with a body, after C(delay) seconds."""

    body: Any = ""
    status: int = 200
    delay: float = 0.0

    @property
    def content(self) -> bytes:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()


@dataclasses.dataclass(frozen=True)
class Raw:
    """Bytes sent as they are, each piece after C(pause) seconds, then the end."""

    pieces: tuple[bytes, ...]
    pause: float = 0.0


HANG = "hang"
"""Accept the request and never answer."""

RESET = "reset"
"""Accept the connection and reset it, as Docker's proxy does before anything listens."""

Behaviour = Any
"""A Reply, a Raw, HANG, RESET, or a function of the request's body that returns one of them."""


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    key: str | None
    body: Any


def completion(tokens: int | None = 1, content: str | None = None, finish: str = "length") -> Reply:
    """A chat answer as gpt-oss gives it for one token: no text, only the count."""
    answer: dict[str, Any] = {
        "object": "chat.completion",
        "choices": [{"message": {"content": content}, "finish_reason": finish}],
    }
    if tokens is not None:
        answer["usage"] = {"completion_tokens": tokens}
    return Reply(answer)


def error(status: int, message: str, kind: str = "error") -> Reply:
    return Reply({"error": {"message": message, "type": kind, "code": status}}, status)


class FakeEngine:
    """Serves until C(close); C(routes) maps paths to behaviours and may be changed meanwhile.

    A list in C(routes) is used up one by one, its last entry for ever.
    """

    def __init__(
        self,
        model: str = "gpt-oss-20b",
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        socket_path: str | None = None,
        port: int = 0,
    ) -> None:
        self.key = key
        self.requests: list[Request] = []
        self.running: dict[str, int] = {"0": 0}
        self.iterations: dict[str, int] = {"0": 7}
        self.moving: set[str] = set()
        self.routes: dict[str, Behaviour] = {
            "/health": Reply(),
            "/version": Reply({"version": "0.32.0"}),
            "/v1/models": Reply({"data": [{"id": model, "max_model_len": 131072}]}),
            "/v1/chat/completions": completion(),
            "/v1/completions": completion(),
            "/metrics": self._metrics,
        }
        self.closing = threading.Event()
        self._server = _server(self, socket_path, port)
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = 0 if socket_path else self._server.server_address[1]
        scheme = "https" if tls else "http"
        self.url = f"unix://{socket_path}" if socket_path else f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def _metrics(self, _body: Any) -> Reply:
        lines = ["# TYPE vllm:iteration_tokens_total histogram"]
        for engine, running in self.running.items():
            if engine in self.moving:
                self.iterations[engine] += 1
            count = self.iterations[engine]
            labels = f'engine="{engine}",model_name="gpt-oss-20b"'
            lines += [
                f"vllm:num_requests_running{{{labels}}} {running}.0",
                f"vllm:num_requests_waiting{{{labels}}} 0.0",
                f'vllm:iteration_tokens_total_bucket{{{labels},le="1.0"}} {count}.0',
                f"vllm:iteration_tokens_total_count{{{labels}}} {count}.0",
                f"vllm:iteration_tokens_total_sum{{{labels}}} {count * 8}.0",
            ]
        return Reply("\n".join(lines) + "\n")

    def behaviour(self, request: Request) -> Behaviour:
        self.requests.append(request)
        if self.key and request.path.startswith("/v1/") and request.key != f"Bearer {self.key}":
            return error(401, "Unauthorized")
        chosen = self.routes.get(request.path, Reply({"detail": "Not Found"}, 404))
        if isinstance(chosen, list):
            chosen = chosen.pop(0) if len(chosen) > 1 else chosen[0]
        return chosen(request.body) if callable(chosen) else chosen


class _Handler(http.server.BaseHTTPRequestHandler):
    engine: FakeEngine
    timeout = 10

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        request = Request(self.command, self.path, self.headers.get("Authorization"), body)
        behaviour = self.engine.behaviour(request)
        with contextlib.suppress(OSError):
            self._act(behaviour)

    def _act(self, behaviour: Behaviour) -> None:
        self.close_connection = True
        if behaviour == HANG:
            self.engine.closing.wait(10)
        elif behaviour == RESET:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        elif isinstance(behaviour, Raw):
            for piece in behaviour.pieces:
                self.engine.closing.wait(behaviour.pause)
                self.wfile.write(piece)
        else:
            self.engine.closing.wait(behaviour.delay)
            content = behaviour.content
            self.send_response(behaviour.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = _handle  # noqa: N815  (http.server looks for these names)

    def log_message(self, *_args: Any) -> None:
        pass


def _server(engine: FakeEngine, socket_path: str | None, port: int) -> socketserver.BaseServer:
    handler: Callable[..., Any] = type("Handler", (_Handler,), {"engine": engine})
    if socket_path:
        return _UnixServer(socket_path, handler)
    return _TcpServer(("127.0.0.1", port), handler)


class _Quiet(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, *_args: Any) -> None:
        """A client that leaves early is what the tests are about."""


class _TcpServer(_Quiet, http.server.HTTPServer):
    allow_reuse_address = True


class _UnixServer(_Quiet, socketserver.UnixStreamServer):
    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _name = super().get_request()
        return connection, ("unix", 0)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
