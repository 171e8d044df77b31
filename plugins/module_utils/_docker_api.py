# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A small client of the Docker Engine API on its Unix socket, with the standard library only.

The paths carry no API version, so every engine answers in its own newest version; only fields
that all versions since 1.41 (Docker 20.10) share may be relied upon.
"""

from __future__ import annotations

import codecs
import http.client
import json
import socket
import time
import typing as t
from urllib.parse import quote

DEFAULT_SOCKET = "/var/run/docker.sock"
_READ_SIZE = 65536


class DockerError(Exception):
    """Whatever goes wrong between us and the Docker Engine."""


class DockerUnavailable(DockerError):  # noqa: N818 - says a state, and reads so in `except`
    """Nobody answers on the socket, or the engine went away in the middle of an answer."""


class DockerAPIError(DockerError):
    """The engine answered, and the answer is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the Docker Engine answered {status}: {message}")
        self.status = status
        self.message = message


class _UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket; the host name is for the Host header alone."""

    def __init__(self, socket_path: str, timeout: float | None) -> None:
        super().__init__("docker", timeout=timeout)
        self._socket_path = socket_path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(self._socket_path)
        except OSError:
            connection.close()
            raise
        self.sock = connection


def quote_segment(name: str) -> str:
    """Quote a name (of an image, of a container) for use inside a path; slashes stay."""
    return quote(name, safe="/:@")


class DockerAPI:
    """The Docker Engine behind one socket. Every request has a connection of its own.

    `timeout` is the longest silence in seconds that a request bears, not its whole duration.
    """

    def __init__(self, socket_path: str = DEFAULT_SOCKET, timeout: float = 10.0) -> None:
        self.socket_path = socket_path
        self.timeout = timeout

    def get(self, path: str) -> t.Any:
        """Return the parsed JSON of `GET path`.

        Raises DockerAPIError for an answer of 400 and above (404: no such object) or without
        JSON, and DockerUnavailable when there is no answer.
        """
        connection, response = self._open("GET", path, {}, self.timeout)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(error) from error
        finally:
            connection.close()
        try:
            return json.loads(body)
        except ValueError as error:
            raise DockerAPIError(response.status, f"no JSON on {path}") from error

    def stream(
        self,
        method: str,
        path: str,
        headers: t.Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> t.Generator[t.Any, None, None]:
        """Yield the JSON objects of an answer as they arrive, for instance those of a pull.

        The request is sent when the first object is asked for. `timeout` bounds the silence
        between two pieces in seconds; None stands for the timeout of this object. Failures that
        the engine reports inside of the stream ({"error": ...}) are objects like all others.
        Raises like `get`; closing the iterator ends the request, which cancels a pull.
        """
        silence = self.timeout if timeout is None else timeout
        connection, response = self._open(method, path, dict(headers or {}), silence)
        try:
            yield from _json_objects(self._pieces(response), response.status)
        finally:
            response.close()
            connection.close()

    def upload(
        self, path: str, body: t.Iterable[bytes], content_type: str, timeout: float
    ) -> list[t.Any]:
        """Send a body piece by piece with `POST path` and return the JSON objects of the answer.

        `timeout` bounds all of it in seconds; what `body` raises ends the request and passes.
        Raises like `get`, and DockerUnavailable when the time is over.
        """
        end = time.monotonic() + timeout
        headers = {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
        pieces = self._until(end, body)
        connection, response = self._open("POST", path, headers, timeout, pieces, end)
        try:
            return list(_json_objects(self._pieces(response), response.status))
        finally:
            response.close()
            connection.close()

    def _until(self, end: float, body: t.Iterable[bytes]) -> t.Iterator[bytes]:
        for piece in body:
            if time.monotonic() > end:
                raise self._unavailable(TimeoutError("timed out"))
            yield piece

    def _open(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        timeout: float,
        body: t.Iterator[bytes] | None = None,
        end: float = float("inf"),
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _UnixHTTPConnection(self.socket_path, timeout)
        try:
            if body is None and method != "GET":
                headers.setdefault("Content-Length", "0")
            try:
                connection.request(method, path, body, headers, encode_chunked=body is not None)
            except ConnectionError:
                # It may have answered before it had read everything: its disk is full.
                if body is None or connection.sock is None:
                    raise
            if body is not None:
                connection.sock.settimeout(max(1.0, end - time.monotonic()))
            response = connection.getresponse()
            failure = response.read() if response.status >= 400 else b""
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unavailable(error) from error
        except BaseException:
            connection.close()
            raise
        if response.status >= 400:
            connection.close()
            raise DockerAPIError(response.status, _error_message(failure) or response.reason)
        return connection, response

    def _pieces(self, response: http.client.HTTPResponse) -> t.Iterator[bytes]:
        while True:
            try:
                piece = response.read1(_READ_SIZE)
            except (OSError, http.client.HTTPException) as error:
                raise self._unavailable(error) from error
            if not piece:
                return
            yield piece

    def _unavailable(self, error: Exception) -> DockerUnavailable:
        return DockerUnavailable(
            f"no answer of the Docker Engine on {self.socket_path}: {error or type(error).__name__}"
        )


def _error_message(body: bytes) -> str:
    """Return what an error answer says: the `message` of its JSON, or its text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return str(parsed.get("message", text)) if isinstance(parsed, dict) else text


def _json_objects(pieces: t.Iterable[bytes], status: int) -> t.Iterator[t.Any]:
    """Yield the JSON values of a byte stream, wherever its pieces are cut."""
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    decoder = json.JSONDecoder()
    pending = ""
    for piece in pieces:
        pending = (pending + utf8.decode(piece)).lstrip()
        while pending:
            try:
                value, end = decoder.raw_decode(pending)
            except ValueError:
                break  # cut in the middle: the next piece completes it
            yield value
            pending = pending[end:].lstrip()
    if pending:
        raise DockerAPIError(status, f"the answer ends in the middle of {pending[:80]!r}")
