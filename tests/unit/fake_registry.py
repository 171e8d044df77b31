# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A registry with its token service, and a hub of models, on one port of this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_TAGS = re.compile(r"/v2/(.+)/tags/list")
_REVISION = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)")


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    authorization: str
    accept: str
    range: str = ""


@dataclass
class FakeRegistry:
    """What it has and how it behaves; to be changed while it runs.

    :param images: (repository, tag) -> manifest.
    :param blobs: digest -> content, of every repository.
    :param cuts: for the next answers with a blob, after how many bytes the connection breaks off.
    :param elsewhere: address that blobs are had from, by a redirect; empty for this one itself.
    :param lifetime: how many requests the first token is good for; 0 for any number.
    :param models: "org/name" -> revision -> commit.
    :param authentication: "" for none, "Basic" or "Bearer".
    :param user: the one "name:password" that is let in; empty lets everybody have a token.
    :param statuses: answers to the next requests, before anything else is looked at.
    :param answers: path -> (status, headers, body), instead of what would be said.
    :param without: of "HEAD" and "digest", what it does not have.
    """

    images: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    elsewhere: str = ""
    lifetime: int = 0
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    authentication: str = ""
    user: str = ""
    hub_token: str = ""
    realm: str = ""
    statuses: list[int] = field(default_factory=list)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens = 0  # that were given
        self.uses = 0  # of the first
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if self.tls:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def push(self, repository: str, tag: str, content: str = "one") -> str:
        """Let a tag name some content; its digest is returned."""
        manifest = json.dumps({"mediaType": INDEX, "manifests": [content]}).encode()
        self.images[repository, tag] = manifest
        return digest(manifest)

    def methods(self) -> list[str]:
        """Methods of the requests for a manifest."""
        return [each.method for each in self.requests if "/manifests/" in each.path]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    fake: FakeRegistry

    def do_GET(self) -> None:
        fake, parts = self.fake, urllib.parse.urlsplit(self.path)
        asked = Request(
            self.command,
            parts.path,
            dict(urllib.parse.parse_qsl(parts.query)),
            self.headers.get("Authorization", ""),
            self.headers.get("Accept", ""),
            self.headers.get("Range", ""),
        )
        fake.requests.append(asked)
        if fake.statuses:
            self._send(fake.statuses.pop(0))
        elif parts.path in fake.answers:
            self._send(*fake.answers[parts.path])
        elif parts.path == "/token":
            self._token(asked)
        elif parts.path.startswith("/v2/"):
            self._registry(asked)
        elif match := _REVISION.fullmatch(parts.path):
            self._hub(asked, match[1], urllib.parse.unquote(match[2]))
        else:
            self._send(404)

    do_HEAD = do_GET  # noqa: N815 - named by http.server

    def _token(self, asked: Request) -> None:
        if self.fake.user and asked.authorization != _basic(self.fake.user):
            self._send(401)
            return
        self.fake.tokens += 1
        token = f"{asked.query.get('service')} {asked.query.get('scope')}"
        self._send(200, {}, json.dumps({"token": base64.b64encode(token.encode()).decode()}))

    def _registry(self, asked: Request) -> None:
        fake = self.fake
        patterns = (_MANIFEST, _BLOB, _TAGS)
        match = next(filter(None, (each.fullmatch(asked.path) for each in patterns)), None)
        scope = f"repository:{match[1]}:pull" if match else ""
        token = base64.b64encode(f"lab {scope}".encode()).decode()
        expected = {"": "", "Basic": _basic(fake.user), "Bearer": f"Bearer {token}"}
        fake.uses += asked.authorization != ""
        expired = fake.lifetime and fake.tokens <= 1 and fake.uses > fake.lifetime
        if asked.authorization != expected[fake.authentication] or expired:
            realm = fake.realm or f"{fake.url}/token"
            details = {
                "Basic": 'Basic realm="lab"',
                "Bearer": f'Bearer realm="{realm}",service="lab",scope="{scope}"',
            }
            self._send(401, {"WWW-Authenticate": details.get(fake.authentication, "Negotiate")})
        elif match and "/manifests/" in asked.path:
            self._manifest(match[1], match[2])
        elif match and "/blobs/" in asked.path:
            self._blob(match[2], asked)
        elif match:
            known = any(repository == match[1] for repository, _tag in fake.images)
            self._send(200 if known else 404, {}, b"{}")
        else:
            self._send(200, {}, b"{}")

    def _manifest(self, repository: str, tag: str) -> None:
        manifest = self.fake.images.get((repository, tag))
        if manifest is None:
            self._send(404)
        elif self.command in self.fake.without:
            self._send(405)
        else:
            named = (
                {} if "digest" in self.fake.without else {"Docker-Content-Digest": digest(manifest)}
            )
            self._send(200, {"Content-Type": INDEX, **named}, manifest)

    def _blob(self, name: str, asked: Request) -> None:
        fake, content = self.fake, self.fake.blobs.get(name)
        if content is None:
            self._send(404)
            return
        if fake.elsewhere:
            self._send(307, {"Location": f"{fake.elsewhere}{self.path}"})
            return
        begin = int(asked.range[len("bytes=") : -1] or 0) if asked.range else 0
        self.send_response(206 if asked.range else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = begin + fake.cuts.pop(0) if fake.cuts else len(content)
        self.wfile.write(content[begin:end])

    def _hub(self, asked: Request, model: str, revision: str) -> None:
        revisions = self.fake.models.get(model)
        if self.fake.hub_token and asked.authorization != f"Bearer {self.fake.hub_token}":
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif revisions is None:
            self._send(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in revisions:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(200, {}, json.dumps({"id": model, "sha": revisions[revision]}))

    def _send(
        self, status: int, headers: dict[str, str] | None = None, body: bytes | str = b""
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - named by http.server
        """Say nothing; tests look at `requests`."""


def _basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"
