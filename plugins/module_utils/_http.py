# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""One HTTP request to one server, with a limit in seconds that holds.

The timeout of C(http.client) and C(urllib) counts anew for every read, so a server that sends a
byte now and then keeps its caller for ever. Here the whole exchange has one limit. Proxies of the
environment and redirects are not followed: the answer is that of the server which was asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator

from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import PARTIAL_CHAIN

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes read of an answer; /metrics of a busy vLLM has about 0.3 MiB."""

_UNIX_PATH_LIMIT = 107
"""Bytes of a unix socket's path on Linux, unix(7)."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})


class HttpError(Exception):
    """No answer came; the text says why, in the words of an operator."""


class NoConnectionError(HttpError):
    """Nothing accepts the connection: refused, unreachable, no such socket, or no reply to it."""


class NotAllowedError(HttpError):
    """This user may not connect, as with a unix socket of other people."""


class UnknownHostError(HttpError):
    """The name has no address; C(temporary) when the name server could not be asked."""

    def __init__(self, text: str, temporary: bool) -> None:
        super().__init__(text)
        self.temporary = temporary


class ClosedError(HttpError):
    """The connection was accepted, then reset or closed before a whole answer."""


class TimedOutError(HttpError):
    """The connection was accepted, and the limit passed before a whole answer."""


class TlsError(HttpError):
    """The certificate does not hold, or the server does not speak TLS."""


class NotHttpError(HttpError):
    """What came back is not HTTP."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens: a host and port, with TLS or without, or a unix socket."""

    url: str
    host: str = "localhost"
    port: int = 0
    tls: bool = False
    socket_path: str = ""
    server_name: str = ""

    @property
    def name(self) -> str:
        """The name that the server is asked under, and that its certificate must have."""
        return self.server_name or self.host

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return f"{host}:{self.port}" if self.port else host


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def parse_url(url: str) -> Address:
    """Return the address in C(url); raise ValueError, with a sentence, for anything unusable."""
    if url.startswith("unix:"):
        return _parse_unix_url(url)
    allowed = "use http://host:port, https://host:port or unix:///path/to/socket"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url {url!r} cannot be read ({error}); {allowed}.") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"url must not carry a user or password; {allowed}, and api_key.")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"url {url!r} is not one that can be asked; {allowed}.")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"url {url!r} must end after the port, without /v1 or a path; {allowed}.")
    return Address(
        url=url.rstrip("/"),
        host=parts.hostname,
        port=port if port is not None else _DEFAULT_PORTS[parts.scheme],
        tls=parts.scheme == "https",
    )


def _parse_unix_url(url: str) -> Address:
    path = url[len("unix://") :]
    if not url.startswith("unix:///") or path == "/":
        raise ValueError(f"url {url!r} names no socket; use unix:///path/to/socket.")
    if len(os.fsencode(path)) > _UNIX_PATH_LIMIT:
        raise ValueError(f"The socket path in url {url!r} is longer than {_UNIX_PATH_LIMIT} bytes.")
    return Address(url=url, socket_path=path)


def tls_context(validate_certs: bool, ca_path: str | None) -> ssl.SSLContext:
    """Return the settings for https; raise ValueError when C(ca_path) holds no certificates."""
    try:
        if ca_path and os.path.isdir(ca_path):
            context = ssl.create_default_context(capath=ca_path)
        else:
            context = ssl.create_default_context(cafile=ca_path or None)
    except OSError as error:
        reason = error.strerror or "no certificate in it"
        raise ValueError(
            f"ca_path {ca_path!r} cannot be used: {reason}; give a PEM file or a directory of them."
        ) from None
    if ca_path:
        # The server's own certificate will do, too, whoever has signed it.
        context.verify_flags |= ssl.VerifyFlags(PARTIAL_CHAIN)
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """Asks the server at one address; every request has a connection of its own."""

    def __init__(
        self,
        address: Address,
        api_key: str | None = None,
        validate_certs: bool = True,
        ca_path: str | None = None,
    ) -> None:
        """Raise ValueError when the key or C(ca_path) cannot be used."""
        # http.client would name the key in its own error.
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ValueError("api_key must be printable ASCII without blanks to fit in a header.")
        self.address = address
        self._headers = {"Host": address.authority, "Connection": "close"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._tls = tls_context(validate_certs, ca_path) if address.tls else None

    def request(
        self, method: str, path: str, *, limit: float, json_body: str | None = None
    ) -> Answer:
        """Return the answer, whatever its status, within C(limit) seconds; raise HttpError."""
        end = time.monotonic() + limit
        sock = self._connect(end)
        watch = _Watch(sock, max(end - time.monotonic(), 0.001))
        try:
            with watch.translate_errors():
                return self._exchange(watch, method, path, json_body)
        finally:
            watch.close()

    def _connect(self, end: float) -> socket.socket:
        problem = "no address"
        for family, where in self._resolve():
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(max(end - time.monotonic(), 0.001))
                sock.connect(where)
            except socket.timeout:
                sock.close()
                problem = "the connection was not accepted in time"
            except OSError as error:
                sock.close()
                problem = (error.strerror or str(error)).lower()
                if error.errno in _NOT_ALLOWED:
                    raise NotAllowedError(problem) from None
            else:
                return sock
        raise NoConnectionError(problem)

    def _resolve(self) -> list[tuple[int, str | tuple[object, ...]]]:
        address = self.address
        if address.socket_path:
            return [(socket.AF_UNIX, address.socket_path)]
        try:
            found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            temporary = getattr(error, "errno", None) == socket.EAI_AGAIN
            raise UnknownHostError(f"no address for {address.host}", temporary) from None
        return [(family, where) for family, _kind, _protocol, _name, where in found]

    def _exchange(self, watch: _Watch, method: str, path: str, json_body: str | None) -> Answer:
        if self._tls:
            watch.sock = self._tls.wrap_socket(
                watch.sock,
                server_hostname=self.address.name,
                # The watch has to know the new socket before anything is waited for.
                do_handshake_on_connect=False,
            )
            watch.sock.do_handshake()
        connection = http.client.HTTPConnection(self.address.host)
        connection.sock = watch.sock
        headers = dict(self._headers)
        if json_body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body=json_body, headers=headers)
        response = connection.getresponse()
        body = response.read(ANSWER_LIMIT)
        if watch.expired:
            raise TimedOutError(watch.expired_text)
        return Answer(response.status, body)


class _Watch:
    """Ends whatever a socket is waiting for when its seconds are over."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.sock = sock
        self.expired = False
        self.expired_text = "no whole answer in time"
        # The timer catches a server that trickles; the timeout one that is silent.
        sock.settimeout(seconds)
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self.expired = True
        with contextlib.suppress(OSError):
            # Not sock.shutdown(): that of a TLS socket drops its state under the reader's feet.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self._timer.cancel()
        with contextlib.suppress(OSError):
            # A reader that is still referenced would keep close() from telling the server.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        self.sock.close()

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        try:
            yield
        except HttpError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._translate(error) from None

    def _translate(self, error: Exception) -> HttpError:
        if self.expired or isinstance(error, socket.timeout):
            return TimedOutError(self.expired_text)
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsError(f"the certificate is not accepted: {error.verify_message}")
        closed = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        if isinstance(error, (*closed, http.client.IncompleteRead)):
            return ClosedError("the connection was accepted, then closed without a whole answer")
        if isinstance(error, ssl.SSLError):
            return TlsError(f"TLS failed: {error.reason or error}")
        if isinstance(error, (http.client.HTTPException, ValueError)):
            return NotHttpError("the answer is not HTTP")
        return ClosedError(f"the connection broke: {error}")
