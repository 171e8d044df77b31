# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A host to prune: real directories below a test's own, and a Docker that answers on a socket."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = "docker.io/vllm/vllm-openai"
FAMILIAR = "vllm/vllm-openai"
A, B, C = ("a" * 40, "b" * 40, "c" * 40)
"""Commits."""


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


class Docker:
    """An engine with images and containers that removes an image as the real one does.

    :ivar failure: status and message of every answer, where there shall be one.
    :ivar children: ids of images on which others are built; it refuses to remove them.
    """

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.images: list[dict[str, Any]] = []
        self.containers: list[dict[str, Any]] = []
        self.children: set[str] = set()
        self.failure: tuple[int, str] | None = None
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"docker": self})
        self._server = _Server(socket_path, handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        Path(self.socket_path).unlink(missing_ok=True)

    def image(self, letter: str, tags: tuple[str, ...] = (), repository: str = FAMILIAR) -> str:
        """Have an image, known by its digest and these tags; return its id."""
        identity = digest(letter)[:-1] + "f"
        self.images.append(
            {
                "Id": identity,
                "RepoTags": [f"{repository}:{tag}" for tag in tags] or None,
                "RepoDigests": [f"{repository}@{digest(letter)}"],
                "Size": 4096,
            }
        )
        return identity

    def container(
        self, image: str = "", state: str = "running", mounts: tuple[Any, ...] = ()
    ) -> None:
        sources = [
            {"Type": "bind", "Source": str(path), "Destination": "/model"} for path in mounts
        ]
        self.containers.append({"ImageID": image, "State": state, "Mounts": sources})

    def removed(self, name: str) -> tuple[int, Any]:
        """Take a name from its image, and the image away with its last one."""
        for image in self.images:
            tags, digests = image["RepoTags"] or [], image["RepoDigests"]
            if name not in [*tags, *digests]:
                continue
            tags = [tag for tag in tags if tag != name]
            repository = name.partition("@")[0].rpartition(":")[0] or name.partition("@")[0]
            if "@" in name or not any(tag.rpartition(":")[0] == repository for tag in tags):
                digests = [each for each in digests if each.partition("@")[0] != repository]
                digests = [each for each in digests if each != name]
            used = [each for each in self.containers if each["ImageID"] == image["Id"]]
            if not (tags or digests) and (used or image["Id"] in self.children):
                return 409, {"message": f"conflict: unable to delete {name}"}
            image["RepoTags"], image["RepoDigests"] = tags or None, digests
            if not (tags or digests):
                self.images.remove(image)
            return 200, [{"Untagged": name}]
        return 404, {"message": f"No such image: {name}"}


class _Handler(http.server.BaseHTTPRequestHandler):
    docker: Docker

    def _answer(self) -> None:
        path = urllib.parse.unquote(self.path)
        self.docker.asked.append(f"{self.command} {path}")
        if self.docker.failure:
            status, content = self.docker.failure[0], {"message": self.docker.failure[1]}
        elif self.command == "DELETE":
            status, content = self.docker.removed(path[len("/images/") :])
        else:
            found = {
                "/images/json": self.docker.images,
                "/containers/json?all=1": self.docker.containers,
            }
            status, content = 200, found[path]
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = _answer  # noqa: N815  (http.server looks for these names)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing in the output of the tests."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_arguments: Any) -> None:
        """A client that is killed in the middle is part of the tests."""


class Host:
    """State directory, store and Docker of one host."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.state = root / "vllm"
        self.store = self.state / "models"
        self.store.mkdir(parents=True)
        self.docker = Docker(str(root / "docker.sock"))

    def release(
        self,
        instance: str,
        identity: str,
        weights: Sequence[Path] | None = (),
        age: float = 0,
        in_force: bool = False,
        image: str = "1",
        **described: Any,
    ) -> Path:
        """Write a release as the role does; `age` in seconds, `image` the letter of its digest.

        Releases of older collections have no `weights`: None.
        """
        release = self.state / instance / "releases" / identity
        release.mkdir(parents=True)
        said: dict[str, Any] = {
            "id": identity,
            "image": f"{REPOSITORY}@{digest(image)}",
            "model": "org/name",
            "name": instance,
            **described,
        }
        if weights is not None:
            said["weights"] = [str(path) for path in weights]
        (release / "release.json").write_text(json.dumps(said))
        (release / "run").write_text("#!/bin/sh\nexec /usr/bin/docker run\n")
        written = time.time() - age
        os.utime(release / "release.json", (written, written))
        if in_force:
            link = self.state / instance / "current"
            link.unlink(missing_ok=True)
            link.symlink_to(f"releases/{identity}")
        return release

    def remove_instance(self, instance: str) -> None:
        """Leave of an instance what the role leaves of one that is absent."""
        shutil.rmtree(self.state / instance / "releases")
        (self.state / instance / "current").unlink()

    def home(self, model: str) -> Path:
        home = self.store / model.replace("/", "--")
        home.mkdir(exist_ok=True)
        (home / ".lock").touch()
        return home

    def model(self, commit: str = A, model: str = "org/name", revision: str = "") -> Path:
        """Have a whole copy with its manifest, and a branch or tag that names it."""
        home = self.home(model)
        copy = home / commit
        (copy / "tokenizer").mkdir(parents=True)
        contents = {"config.json": b"{}", "model.safetensors": b"w" * 998, "tokenizer/vocab": b""}
        for name, content in contents.items():
            (copy / name).write_bytes(content)
        files = {name: {"size": len(each), "sha256": "0" * 64} for name, each in contents.items()}
        manifest = {"model": model, "commit": commit, "source": "https://hub", "files": files}
        (home / f"{commit}.json").write_text(json.dumps(manifest))
        if revision:
            path = home / "revisions.json"
            known = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**known, revision: commit}))
        return copy

    def partial(self, commit: str = B, model: str = "org/name") -> Path:
        """Have a download that was cut off."""
        partial = self.home(model) / f"{commit}.partial"
        partial.mkdir()
        (partial / "model.safetensors.part").write_bytes(b"w" * 500)
        return partial

    def tree(self) -> dict[str, bytes]:
        """All files below the state directory."""
        return {
            str(path.relative_to(self.state)): path.read_bytes()
            for path in sorted(self.state.rglob("*"))
            if path.is_file()
        }
