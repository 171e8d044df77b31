# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A hub of models on the lab's network: what huggingface_hub asks of huggingface.co, no more.

Standard library only; the lab starts it as `python3 -c <this text> <directory> <port>`.

Every directory with a config.json is the repository `openai-lab/<directory>` with one commit, which
is also `main` and every name in its `.revisions.json`. Where there is a `.token`, it is asked for.
Large files (Git LFS) are redirected to the CDN, which listens on the next port and so is another
origin, as the real one is. Faults are put to `/_faults`; `/_sent` tells what was sent to whom.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

ORGANISATION = "openai-lab"
_LFS_BYTES = 10 * 1024**2
"""Size from which the real hub keeps a file in LFS."""
_CHUNK = 256 * 1024
"""Also the kernel's buffer per connection, so that little more is counted than has arrived."""

_API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_CDN = re.compile(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)")


class HubError(Exception):
    """An error in the hub's own words: the code that the client turns into an exception."""

    def __init__(self, code: str, status: int = 404) -> None:
        super().__init__(code)
        self.status = status


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

    @property
    def _pointer(self) -> bytes:
        """What Git keeps in place of an LFS file."""
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def oid(self) -> str:
        """Git's name of what it keeps."""
        if not self.is_lfs:
            return self.blob
        content = b"blob %d\0%s" % (len(self._pointer), self._pointer)
        return hashlib.sha1(content).hexdigest()  # noqa: S324 - Git's name

    def entry(self, name: str) -> dict[str, Any]:
        """The file as a line of the tree listing."""
        entry = {"type": "file", "oid": self.oid, "size": self.size, "path": name}
        return {**entry, **self._lfs("oid")}

    def sibling(self, name: str) -> dict[str, Any]:
        """The file in the information with blobs."""
        entry = {"rfilename": name, "size": self.size, "blobId": self.oid}
        return {**entry, **self._lfs("sha256")}

    def _lfs(self, key: str) -> dict[str, Any]:
        sizes = {"size": self.size, "pointerSize": len(self._pointer)}
        return {"lfs": {key: self.sha256, **sizes}} if self.is_lfs else {}


@dataclass(frozen=True)
class Repository:
    """A directory of models at its one commit, which `revisions` name too."""

    name: str
    commit: str
    files: dict[str, File]
    revisions: frozenset[str]
    token: str
    gated: bool

    def information(self, blobs: bool = False) -> dict[str, Any]:
        """The answer to a question about the repository."""
        files = self.files.items()
        return {
            "id": self.name,
            "modelId": self.name,
            "sha": self.commit,
            "private": bool(self.token) and not self.gated,
            "gated": "auto" if self.gated else False,
            "disabled": False,
            "tags": [],
            "siblings": [
                file.sibling(name) if blobs else {"rfilename": name} for name, file in files
            ],
        }

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        """The files and folders in the folder `below`, or in the whole repository."""
        top = f"{below}/" if below else ""
        found = {name: file for name, file in self.files.items() if name.startswith(top)}
        if below and not found:
            raise HubError("EntryNotFound")
        entries = {name: file.entry(name) for name, file in found.items()}
        for name in found:
            for folder in map(str, PurePosixPath(name).parents):
                if folder != "." and folder.startswith(top):
                    oid = hashlib.sha1(folder.encode()).hexdigest()  # noqa: S324 - Git's length
                    entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        direct = (name for name in entries if recursive or "/" not in name[len(top) :])
        return [entries[name] for name in sorted(direct)]

    def check_token(self, given: str, for_file: bool) -> None:
        """Refuse as the real hub does.

        Anybody may read about a gated repository, but not its files; a private one is not there
        for strangers.
        """
        if not self.token or given == self.token or (self.gated and not for_file):
            return
        if self.gated:
            raise HubError("GatedRepo", 403 if given else 401)
        raise HubError("RepoNotFound" if given else "GatedRepo", 401)


@lru_cache(maxsize=1024)
def _file(path: Path, size: int, _changed: int) -> File:
    blob, content = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()  # noqa: S324 - Git's name
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            blob.update(chunk)
            content.update(chunk)
    return File(path, size, blob.hexdigest(), content.hexdigest())


def repository(directory: Path) -> Repository:
    """Read a repository; its commit is derived from names and contents, so it names them."""
    files = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            files[name] = _file(path, path.stat().st_size, path.stat().st_mtime_ns)
    listing = "".join(f"{name}\0{file.blob}\n" for name, file in files.items())
    commit = hashlib.sha1(listing.encode()).hexdigest()  # noqa: S324 - the length of Git's names
    revisions, token = directory / ".revisions.json", directory / ".token"
    named = json.loads(revisions.read_text()) if revisions.exists() else {}
    words = token.read_text().split() if token.exists() else [""]
    return Repository(
        f"{ORGANISATION}/{directory.name}",
        commit,
        files,
        frozenset(("main", commit, *named)),
        token=words[-1],
        gated=words[0] == "gated",
    )


def repositories(root: Path) -> dict[str, Repository]:
    """All repositories by name."""
    read = [repository(found.parent) for found in sorted(root.glob("*/config.json"))]
    return {found.name: found for found in read}


@dataclass
class Fault:
    """One way to fail, for the next `times` answers that it fits (none: for ever).

    `path` is a pattern: of files' paths within their repositories, or of requests if it begins with
    a slash. `kind`: `cut` closes the connection and `hang` falls silent once `after_bytes` of an
    answer are sent; `slow` sends `bytes_per_second`; `flip` changes the byte at `after_bytes` of
    the file; `truncate` ends the file there; three digits are a status. Requests that are no files
    know `cut`, `hang` and statuses.
    """

    path: str
    kind: str
    times: int | None = 1
    after_bytes: int = 0
    bytes_per_second: int = 64 * 1024
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cut|hang|slow|flip|truncate|[1-5]\d\d", self.kind):
            raise ValueError(f"{self.kind} is no kind of fault")

    def fits(self, name: str, first: int, last: int) -> bool:
        meant = self.path.startswith("/") == name.startswith("/")
        reached = self.kind != "flip" or first <= self.after_bytes <= last
        return self.times != 0 and meant and reached and fnmatch.fnmatchcase(name, self.path)


class State:
    """What the hub and its CDN share: the models, the faults and the counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cdn_port = 0
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._sent: dict[str, dict[str, dict[str, int]]] = {}

    def add_fault(self, content: dict[str, Any]) -> None:
        """Add one more fault. Raises TypeError and ValueError for what is none."""
        fault = Fault(**content)
        with self._lock:
            self._faults.append(fault)

    def clear_faults(self) -> None:
        """Forget all faults and let go who hangs."""
        with self._lock:
            for fault in self._faults:
                fault.over.set()
            self._faults = []

    def take_fault(self, name: str, first: int = 0, last: int = 0) -> Fault | None:
        """Return the first fault for this answer, which counts as one of its times."""
        with self._lock:
            for fault in self._faults:
                if fault.fits(name, first, last):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def count(self, client: str, file: str, sent: int = 0, requests: int = 0) -> None:
        with self._lock:
            empty = {"bytes": 0, "requests": 0}
            counts = self._sent.setdefault(client, {}).setdefault(file, empty)
            counts["bytes"] += sent
            counts["requests"] += requests

    def sent(self, clear: bool = False) -> dict[str, Any]:
        """Return {client: {repository/path: {bytes, requests}}} since it was last cleared."""
        with self._lock:
            found = json.loads(json.dumps(self._sent))
            self._sent = {} if clear else self._sent
        return dict(found)


class Listener(ThreadingHTTPServer):
    """One port of the hub."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, state: State) -> None:
        super().__init__(("", port), Handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle of an answer is part of the tests."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.1"
    server: Listener

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CHUNK)

    @property
    def _state(self) -> State:
        return self.server.state

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        fault = self._state.take_fault(urllib.parse.unquote(url.path))
        try:
            if fault:
                self._fail(fault)
            else:
                self._answer(url.path, query)
        except HubError as error:
            self._send(error.status, {"error": str(error)}, {"X-Error-Code": str(error)})

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            if self.path != "/_faults":
                raise ValueError(f"nothing is put to {self.path}")
            self._state.add_fault(json.loads(content))
            self._send(200, {})
        except (TypeError, ValueError) as error:
            self._send(400, {"error": str(error)})

    def do_DELETE(self) -> None:
        if self.path == "/_faults":
            self._state.clear_faults()
            self._send(200, {})
        elif self.path == "/_sent":
            self._send(200, self._state.sent(clear=True))
        else:
            self._send(404, {})

    def _answer(self, path: str, query: dict[str, str]) -> None:
        if path == "/_sent":
            self._send(200, self._state.sent())
        elif path == "/api/models":
            found = repositories(self._state.root).values()
            self._send(200, [each.information() for each in found])
        elif match := _API.fullmatch(path):
            parts = [urllib.parse.unquote(part or "") for part in match.groups()]
            name, question, revision, below = parts
            repo = self._repository(name, revision or "main", for_file=False)
            if question == "tree":
                self._send(200, repo.tree(below, query.get("recursive", "").lower() == "true"))
            elif below:
                raise HubError("EntryNotFound")
            else:
                self._send(200, repo.information(query.get("blobs", "").lower() == "true"))
        elif match := _RESOLVE.fullmatch(path):
            name, revision, wanted = map(urllib.parse.unquote, match.groups())
            self._resolve(self._repository(name, revision, for_file=True), wanted)
        elif match := _CDN.fullmatch(path):
            name, _commit, wanted = map(urllib.parse.unquote, match.groups())
            self._deliver(name, wanted)
        else:
            raise HubError("NotFound")

    def _repository(self, name: str, revision: str, for_file: bool) -> Repository:
        found = repositories(self._state.root).get(name)
        if found is None:
            # The real hub says 401 to strangers, who shall not learn which repositories exist.
            raise HubError("RepoNotFound", 404 if self._token else 401)
        found.check_token(self._token, for_file)
        if revision not in found.revisions:
            raise HubError("RevisionNotFound")
        return found

    def _resolve(self, found: Repository, wanted: str) -> None:
        """Send a small file, and to the CDN for a large one."""
        file = found.files.get(wanted)
        headers = {"X-Repo-Commit": found.commit}
        if file is None:
            body = {"error": "Entry not found"}
            self._send(404, body, {"X-Error-Code": "EntryNotFound", **headers})
        elif not file.is_lfs:
            self._send_file(file, f"{found.name}/{wanted}", headers)
        else:
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            path = urllib.parse.quote(f"/cdn/{found.name}/{found.commit}/{wanted}")
            linked = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.etag}"'}
            headers["Location"] = f"http://{host}:{self._state.cdn_port}{path}?Signature=lab"
            self._send(302, {}, {**headers, **linked})

    def _deliver(self, name: str, wanted: str) -> None:
        """Answer as the CDN: whoever has the address may read; a token beside it is an error."""
        found = repositories(self._state.root).get(name)
        file = found.files.get(wanted) if found else None
        if file is None:
            raise HubError("EntryNotFound")
        if self._token:
            self._send(400, {"error": "Only one auth mechanism allowed"})  # in the words of S3
        else:
            self._send_file(file, f"{name}/{wanted}", {})

    def _send_file(self, file: File, name: str, headers: dict[str, str]) -> None:
        range_asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, file.size - 1
        if range_asked:
            first, last = int(range_asked[1]), min(int(range_asked[2] or last), last)
        fault = None
        if self.command != "HEAD":
            self._state.count(self.client_address[0], name, requests=1)
            fault = self._state.take_fault(name.split("/", 2)[2], first, last)
        if fault and fault.kind.isdigit():
            self._fail(fault)
            return
        size = file.size
        if fault and fault.kind == "truncate":
            size = min(size, fault.after_bytes)
            last = min(last, size - 1)
        status = 206 if range_asked else 200
        if range_asked and first > last:
            self._send(416, {}, {"Content-Range": f"bytes */{size}"})
            return
        if range_asked:
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
        content = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        self._head(status, last - first + 1, {**headers, **content, "ETag": f'"{file.etag}"'})
        if self.command != "HEAD":
            self._transfer(file, name, (first, last + 1), fault)

    def _transfer(self, file: File, name: str, part: tuple[int, int], fault: Fault | None) -> None:
        position, end = part
        chunk_size = _CHUNK
        if fault and fault.kind in ("cut", "hang"):
            end = min(end, position + fault.after_bytes)
        if fault and fault.kind == "slow":
            chunk_size = min(_CHUNK, max(1, fault.bytes_per_second // 10))
        with file.path.open("rb") as source:
            source.seek(position)
            while position < end and (read := source.read(min(chunk_size, end - position))):
                chunk = bytearray(read)
                if fault and fault.kind == "flip" and 0 <= fault.after_bytes - position < len(read):
                    chunk[fault.after_bytes - position] ^= 0xFF
                self.wfile.write(chunk)
                self._state.count(self.client_address[0], name, sent=len(chunk))
                position += len(chunk)
                if fault and fault.kind == "slow" and not fault.over.is_set():
                    time.sleep(len(chunk) / fault.bytes_per_second)
        if fault and fault.kind in ("cut", "hang"):
            self._fail(fault)

    def _fail(self, fault: Fault) -> None:
        """Answer with the fault's status, or with nothing (more)."""
        if fault.kind.isdigit():
            self._send(int(fault.kind), {"error": "a fault of the lab"})
            return
        if fault.kind == "hang":
            self.wfile.flush()
            fault.over.wait()
        self.close_connection = True

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
        digest = hashlib.sha256(self._token.encode()).hexdigest()[:12] if self._token else "none"
        sys.stderr.write(
            f"{self.client_address[0]} {self.command} {self.path} {int(code)} token={digest}\n"
        )


def start(root: Path, port: int) -> tuple[Listener, Listener]:
    """Serve in threads and return the hub and its CDN; port 0 takes two free ones."""
    state = State(root)
    hub = Listener(port, state)
    cdn = Listener(port + 1 if port else 0, state)
    state.cdn_port = cdn.server_port
    for listener in (hub, cdn):
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
    return hub, cdn


def main() -> None:
    directory, port = sys.argv[1:]
    hub, _cdn = start(Path(directory), int(port))
    print("The hub listens on port", hub.server_port)
    threading.Event().wait()


if __name__ == "__main__":
    main()
