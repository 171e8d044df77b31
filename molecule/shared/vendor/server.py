# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Serves the vendors' repositories on the lab's network. Standard library only.

The lab starts it as `python3 -c <this text> <directory> <port>`. What a host is given depends on
what it asked for itself, so that labs do not disturb each other:

    POST /_key/second     the indexes and keys as they are after the vendors have changed their keys
    POST /_key/first      as before
    POST /_status/503     this answer to everything; 200 for the repositories again
"""

from __future__ import annotations

import re
import shutil
import sys
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ORDERS = re.compile(r"/_(key)/(first|second)|/_(status)/(\d{3})")


@dataclass
class Client:
    """What one host is shown."""

    key: str = "first"
    status: int = 200


class Handler(BaseHTTPRequestHandler):
    """Answers one client; `root` is the directory of the repositories."""

    protocol_version = "HTTP/1.1"
    root = Path()
    clients: dict[str, Client] = {}  # noqa: RUF012 - shared by all requests

    def _client(self) -> Client:
        return self.clients.setdefault(self.client_address[0], Client())

    def do_GET(self) -> None:
        client = self._client()
        if client.status != 200:
            self._head(client.status, 0)
            return
        asked = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        path = (self.root / asked).resolve()
        signed = path.with_name(f"{path.name}.{client.key}")
        found = signed if signed.is_file() else path
        if not found.is_relative_to(self.root) or not found.is_file():
            self._head(404, 0)
            return
        self._head(200, found.stat().st_size)
        if self.command == "GET":
            with found.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def do_POST(self) -> None:
        order = _ORDERS.fullmatch(self.path)
        if order is None:
            self._head(404, 0)
            return
        client = self._client()
        if order[1]:
            client.key = order[2]
        else:
            client.status = int(order[4])
        self._head(204, 0)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def main() -> None:
    directory, port = sys.argv[1:]
    Handler.root = Path(directory).resolve()
    ThreadingHTTPServer(("", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
