# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A hub of models on the lab's network: what huggingface_hub asks of huggingface.co, no more.

Standard library only; the lab starts it as `python3 -c <this text> <directory> <port>`.

Every directory with a config.json is the repository `openai-lab/<directory>` with one commit, which
is also `main`. All files are answered directly; the real hub sends clients to its CDN for large
ones (Git LFS), whose names and sizes are in headers of their own here too.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import urllib.parse
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ORGANISATION = "openai-lab"
_LFS_BYTES = 10 * 1024**2
"""Size from which the real hub keeps a file in LFS."""
_CHUNK = 1024**2

_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass(frozen=True)
class File:
    """One file of a repository, with the names that Git and LFS have for its content."""

    path: Path
    size: int
    blob: str
    sha256: str

    @property
    def is_lfs(self) -> bool:
        return self.size >= _LFS_BYTES or self.path.suffix == ".safetensors"

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob

    def entry(self) -> dict[str, Any]:
        """The file as a line of the tree listing."""
        entry = {"type": "file", "oid": self.blob, "size": self.size, "path": self.path.name}
        lfs = {"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}}
        return {**entry, **(lfs if self.is_lfs else {})}


@dataclass(frozen=True)
class Repository:
    """A directory of models at its one commit."""

    name: str
    commit: str
    files: dict[str, File]

    def information(self) -> dict[str, Any]:
        """The answer to a question about the repository."""
        return {
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "siblings": [{"rfilename": name} for name in self.files],
        }


class HubError(Exception):
    """An error in the hub's own words: the code that the client turns into an exception."""


@lru_cache(maxsize=64)
def _file(path: Path, size: int, _changed: int) -> File:
    blob, content = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()  # noqa: S324 - Git's name
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            blob.update(chunk)
            content.update(chunk)
    return File(path, size, blob.hexdigest(), content.hexdigest())


def repository(directory: Path) -> Repository:
    """Read a repository; its commit is derived from names and contents, so it names them."""
    found = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    files = {
        path.name: _file(path, path.stat().st_size, path.stat().st_mtime_ns)
        for path in found
        if path.is_file()
    }
    listing = "".join(f"{name}\0{file.blob}\n" for name, file in files.items())
    commit = hashlib.sha1(listing.encode()).hexdigest()  # noqa: S324 - the length of Git's names
    return Repository(f"{ORGANISATION}/{directory.name}", commit, files)


def repositories(root: Path) -> dict[str, Repository]:
    """All repositories by name."""
    read = [repository(found.parent) for found in sorted(root.glob("*/config.json"))]
    return {found.name: found for found in read}


class Handler(BaseHTTPRequestHandler):
    """Answers one client; `root` is the directory of the models."""

    protocol_version = "HTTP/1.1"
    root = Path()

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        try:
            self._answer(urllib.parse.unquote(url.path))
        except HubError as error:
            self._send(404, {"error": str(error)}, {"X-Error-Code": str(error)})

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def _answer(self, path: str) -> None:
        if path == "/api/models":
            self._send(200, [found.information() for found in repositories(self.root).values()])
        elif match := _API.fullmatch(path):
            name, question, revision, below = match.groups()
            found = self._repository(name, revision or "main")
            if below:  # no repository here has folders
                raise HubError("EntryNotFound")
            listing = [file.entry() for file in found.files.values()]
            self._send(200, listing if question == "tree" else found.information())
        elif match := _RESOLVE.fullmatch(path):
            name, revision, wanted = match.groups()
            self._resolve(self._repository(name, revision), wanted)
        else:
            raise HubError("NotFound")

    def _repository(self, name: str, revision: str) -> Repository:
        found = repositories(self.root).get(name)
        if found is None:
            raise HubError("RepoNotFound")
        if revision not in ("main", found.commit):
            raise HubError("RevisionNotFound")
        return found

    def _resolve(self, found: Repository, wanted: str) -> None:
        file = found.files.get(wanted)
        if file is None:
            body = {"error": "Entry not found"}
            self._send(404, body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
        else:
            linked = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.etag}"'}
            headers = {"X-Repo-Commit": found.commit, **(linked if file.is_lfs else {})}
            self._send_file(file, headers)

    def _send_file(self, file: File, headers: dict[str, str]) -> None:
        first, last, status = 0, file.size - 1, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            if first > last:
                self._send(416, {}, {"Content-Range": f"bytes */{file.size}"})
                return
            headers, status = {**headers, "Content-Range": f"bytes {first}-{last}/{file.size}"}, 206
        self._head(
            status,
            last - first + 1,
            {
                **headers,
                "ETag": f'"{file.etag}"',
                "Accept-Ranges": "bytes",
                "Content-Type": "application/octet-stream",
            },
        )
        if self.command == "HEAD":
            return
        with file.path.open("rb") as source:
            source.seek(first)
            if last == file.size - 1:
                shutil.copyfileobj(source, self.wfile, _CHUNK)
            else:
                self.wfile.write(source.read(last - first + 1))

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self._head(status, len(body), {"Content-Type": "application/json", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line: client, request, status, and which token came, by a digest of it."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        digest = hashlib.sha256(token.encode()).hexdigest()[:12] if token else "none"
        sys.stderr.write(
            f"{self.client_address[0]} {self.command} {self.path} {int(code)} token={digest}\n"
        )


def main() -> None:
    directory, port = sys.argv[1:]
    Handler.root = Path(directory)
    ThreadingHTTPServer(("", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
