# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A server on loopback that answers as a source of models does, or as badly as a test wants."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import http.server
import json
import socketserver
import ssl
import threading
import urllib.parse
from typing import Any

COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"
MODEL_FILES = {
    "config.json": b'{"model_type": "gpt_oss"}',
    "model-00000-of-00001.safetensors": b"weights" * 1000,
    "original/model.safetensors": b"the same weights" * 500,
    "tokenizer/vocab one.json": b"{}",
}
"""A small model, with a folder, a blank in a name, and weights that serving does not need."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What came in: C(path) is as it was sent, with its query."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def token(self) -> str | None:
        return self.headers.get("authorization")


@dataclasses.dataclass(frozen=True)
class Reply:
    """What goes out; C(claimed) is a Content-Length that is not true."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    claimed: int | None = None

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


HANG = "hang"
"""Accept the request and never answer."""

CLOSE = "close"
"""Accept the request and close the connection."""


class FakeSource:
    """Serves until C(close); C(routes) maps paths, as sent and without query, to behaviours.

    A behaviour is a Reply, HANG, CLOSE, a function of the Request that returns one of them, or a
    list of them, which is used up one by one, its last entry for ever.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        source = self

        class Handler(_Handler):
            owner = source

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def asked(self) -> list[str]:
        """Method and path of every request, queries left out."""
        return [f"{each.method} {each.path.partition('?')[0]}" for each in self.requests]

    def behaviour(self, request: Request) -> Any:
        self.requests.append(request)
        chosen = self.routes.get(request.path.partition("?")[0], Reply("no such page", 404))
        if isinstance(chosen, list):
            chosen = chosen.pop(0) if len(chosen) > 1 else chosen[0]
        return chosen(request) if callable(chosen) else chosen

    # What the kinds of sources have

    def add_hub_model(self, identifier: str, revision: str = "main", **changes: Any) -> None:
        """Have a model as huggingface.co has it; C(changes) are to the answer's keys."""
        quoted = urllib.parse.quote(revision, safe="")
        answer = {"id": identifier, "sha": COMMIT, "siblings": hub_siblings(MODEL_FILES)}
        self.routes[f"/api/models/{identifier}/revision/{quoted}"] = Reply({**answer, **changes})

    def add_modelscope_model(self, identifier: str, **changes: Any) -> None:
        """Have a model as ModelScope has it; C(changes) are to the keys of its data."""
        data = {
            "Files": modelscope_files(MODEL_FILES),
            "IsVisual": 0,
            "LatestCommitter": {"Id": "", "ShortId": COMMIT[:8]},
        }
        answer = {"Code": 200, "Data": {**data, **changes}, "Message": "success", "Success": True}
        self.routes[f"/api/v1/models/{identifier}/repo/files"] = Reply(answer)

    def add_directory(self, path: str, files: dict[str, bytes], sums: str | None = None) -> None:
        """Have files below a path, and their SHA256SUMS."""
        text = sums_of(files) if sums is None else sums
        for name, content in {**files, "SHA256SUMS": text.encode()}.items():
            self.routes[f"{path}/{urllib.parse.quote(name)}"] = Reply(content)


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: FakeSource
    timeout = 10

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        behaviour = self.owner.behaviour(Request(self.command, self.path, headers))
        self.close_connection = True
        if behaviour == HANG:
            self.owner.closing.wait(10)
        elif behaviour != CLOSE:
            with contextlib.suppress(OSError):
                self._reply(behaviour)

    def _reply(self, reply: Reply) -> None:
        length = len(reply.content) if reply.claimed is None else reply.claimed
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(length), **reply.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.content)

    do_GET = do_HEAD = _handle  # noqa: N815  (http.server looks for these names)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing in the output of the tests."""


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: Any) -> None:
        """A client that leaves early is part of the tests."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """The name that Git has for a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324


def sums_of(files: dict[str, bytes]) -> str:
    return "".join(f"{sha256(content)}  {name}\n" for name, content in files.items())


def hub_siblings(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Files as the hub lists them with blobs=true; the large ones are in LFS, behind a pointer."""
    siblings = []
    for name, content in files.items():
        entry = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
        if name.endswith(".safetensors"):
            pointer = git_sha1(b"a pointer to " + content)
            lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            entry.update(blobId=pointer, lfs=lfs)
        siblings.append(entry)
    return siblings


def modelscope_files(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Files and folders as ModelScope lists them; each names the commit that wrote it last."""
    entries: list[dict[str, Any]] = [
        {"Path": folder, "Name": folder, "Type": "tree", "Size": 0, "Sha256": ""}
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""})
    ]
    for name, content in files.items():
        revision = COMMIT if name == "config.json" else "0" * 40
        entry = {"Path": name, "Name": name.rpartition("/")[2], "Type": "blob"}
        entries.append(
            {**entry, "Size": len(content), "Sha256": sha256(content), "Revision": revision}
        )
    return entries


def s3(reply: Reply, access_key: str, secret_key: str, region: str) -> Any:
    """What S3 answers for an object: the reply, or its refusal of a signature that does not hold.

    The signature is reckoned from what came in, step by step as the documentation has them.
    """

    def refusal(status: int, code: str) -> Reply:
        return Reply(f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>", status)

    def answer(request: Request) -> Reply:
        path, _mark, query = request.path.partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.split("&")) if query else {}
        signature = pairs.pop("X-Amz-Signature", "")
        told = {name: urllib.parse.unquote(value) for name, value in pairs.items()}
        if not signature:
            return refusal(403, "AccessDenied")
        key, day, zone, service, end = told["X-Amz-Credential"].split("/")
        if key != access_key:
            return refusal(403, "InvalidAccessKeyId")
        if zone != region:
            return refusal(400, "AuthorizationQueryParametersError")
        since = datetime.datetime.strptime(told["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
        age = datetime.datetime.now(datetime.timezone.utc) - since.replace(
            tzinfo=datetime.timezone.utc
        )
        if not -60 < age.total_seconds() < int(told["X-Amz-Expires"]):
            return refusal(403, "AccessDenied")
        canonical = (
            f"{request.method}\n{path}\n"
            + "&".join(f"{name}={pairs[name]}" for name in sorted(pairs))
            + f"\nhost:{request.headers['host']}\n\n{told['X-Amz-SignedHeaders']}\nUNSIGNED-PAYLOAD"
        )
        to_sign = (
            f"AWS4-HMAC-SHA256\n{told['X-Amz-Date']}\n{day}/{zone}/{service}/{end}\n"
            + sha256(canonical.encode())
        )
        day_key = hmac.digest(b"AWS4" + secret_key.encode(), day.encode(), "sha256")
        region_key = hmac.digest(day_key, zone.encode(), "sha256")
        service_key = hmac.digest(region_key, b"s3", "sha256")
        signing_key = hmac.digest(service_key, b"aws4_request", "sha256")
        expected = hmac.digest(signing_key, to_sign.encode(), "sha256").hex()
        return reply if signature == expected else refusal(403, "SignatureDoesNotMatch")

    return answer
