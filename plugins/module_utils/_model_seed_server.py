# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Serves the complete models of a store to other hosts, for as long as a run needs it.

Runs inside a container of the vLLM image, as `python3 -I -c <this text>` with the job as JSON on
standard input; nothing of the collection may be imported. It has no use for the image's starlette,
which carries every byte of a file through Python: here the kernel sends files by itself.

A file is `/<org>--<name>/<commit>/<path>?<key>`. What was not there at the start, and whoever lacks
the key, gets 404. The key is a query because the client's messages leave queries out.

Job: `store`, `port`, `key`, `seconds` after which it ends by itself.
Its first line of output says that it listens: {files, bytes}.
"""

from __future__ import annotations

import glob
import hmac
import json
import os
import re
import socketserver
import stat
import sys
import threading
import time
import typing as t
import urllib.parse
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

_MANIFEST = re.compile(r"[0-9a-f]{40}\.json\Z")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)\Z")
_SILENCE = 60.0
"""Seconds that a client may take to ask, or to take what it has asked for."""


@dataclass(frozen=True)
class File:
    """One file of a complete copy, its size in bytes."""

    path: str
    size: int
    sha256: str


def catalogue(store: str) -> dict[str, File]:
    """Return the files of the complete copies of a store, by the path that they are asked for."""
    found: dict[str, File] = {}
    for manifest in sorted(glob.glob(os.path.join(glob.escape(store), "*", "*.json"))):
        if _MANIFEST.match(os.path.basename(manifest)):
            found.update(_copy(store, manifest))
    return found


def _copy(store: str, manifest: str) -> dict[str, File]:
    """Return the files of one copy; nothing where it is not as its manifest says."""
    directory = manifest[: -len(".json")]
    try:
        with open(manifest, encoding="utf-8") as content:
            entries = json.load(content)["files"].items()
        files = [
            File(os.path.join(directory, name), entry["size"], entry["sha256"])
            for name, entry in entries
        ]
        whole = all(_size(file.path) == file.size for file in files)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}
    return {f"/{os.path.relpath(file.path, store)}": file for file in files} if whole else {}


def _size(path: str) -> int:
    """Return the size of a regular file in bytes; -1 for anything else."""
    found = os.lstat(path)
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The port; a thread for every connection.

    Not http.server's own, which asks DNS for the name of the host before it listens.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256  # many hosts begin at the same moment

    def __init__(self, port: int, files: t.Mapping[str, File], key: str) -> None:
        super().__init__(("", port), Handler)
        self.files = files
        self.key = key.encode()

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Say nothing of a client that has hung up: it comes back for the rest, or it does not."""


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.1"
    timeout = _SILENCE
    server: Listener

    def do_GET(self) -> None:
        path, _mark, key = self.path.partition("?")
        # The key first: how long an answer takes must not tell what there is.
        known = hmac.compare_digest(key.encode("utf-8", "replace"), self.server.key)
        file = self.server.files.get(urllib.parse.unquote(path)) if known else None
        try:
            source = open(file.path, "rb") if file else None  # noqa: SIM115 - by `with` below
        except OSError:
            source = None
        if file is None or source is None:
            self._head(404, 0)
            return
        with source:
            self._answer(file, source)

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def _answer(self, file: File, source: t.BinaryIO) -> None:
        asked = _RANGE.match(self.headers.get("Range", ""))
        first, last = 0, file.size - 1
        if asked:
            first, last = int(asked.group(1)), min(int(asked.group(2) or last), last)
        if asked and first > last:
            self._head(416, 0, {"Content-Range": f"bytes */{file.size}"})
            return
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{file.sha256}"'}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{file.size}"
        count = last - first + 1
        self._head(206 if asked else 200, count, headers)
        # A count of 0 means all to sendfile.
        if self.command == "GET" and count:
            sent = self.connection.sendfile(source, first, count)
            self.close_connection = self.close_connection or sent != count

    def _head(self, status: int, length: int, headers: t.Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - as in http.server
        """Say nothing: requests hold the key."""


def main() -> None:
    job = json.load(sys.stdin)
    files = catalogue(job["store"])
    listener = Listener(job["port"], files, job["key"])
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    total = sum(file.size for file in files.values())
    sys.stdout.write(json.dumps({"files": len(files), "bytes": total}) + "\n")
    sys.stdout.flush()
    time.sleep(job["seconds"])


if __name__ == "__main__":
    main()
