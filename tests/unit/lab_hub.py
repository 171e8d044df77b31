# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's hub of models on loopback, with a small model, for tests that download."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

SERVER = Path(__file__).resolve().parents[2] / "molecule" / "shared" / "hub" / "server.py"
WHY_SKIPPED = "ansible-test has neither the lab nor the hub's client; the part `unit` has both"

MIB = 1024 * 1024
MODEL = "openai-lab/tiny"
FILES = {
    "config.json": b'{"model_type": "gpt_oss"}\n',
    "tokenizer.json": bytes(range(256)) * 1200,
    "model-00001.safetensors": bytes(range(255)) * (3 * MIB // 255) + b"tail",
    "model-00002.safetensors": bytes(range(253)) * (MIB // 253),
    "original/model.safetensors": b"the same in another format" * 1000,
}
BIG = "model-00001.safetensors"


def write_model(directory: Path) -> Path:
    """Write the small model; return its directory."""
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


@functools.cache
def _server() -> ModuleType:
    """The server as a module; the lab starts its text."""
    specification = importlib.util.spec_from_file_location("lab_hub_server", SERVER)
    assert specification is not None
    assert specification.loader is not None
    server = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = server  # dataclasses look for their module
    specification.loader.exec_module(server)
    return server


class LabHub:
    """Serves the repositories below a directory until it is closed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listeners = _server().start(root, 0)
        hub, cdn = self._listeners
        self.endpoint = f"http://127.0.0.1:{hub.server_port}"
        self.cdn = f"http://127.0.0.1:{cdn.server_port}"

    def ask(self, path: str, method: str = "GET", content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.endpoint}{path}", data, method=method)
        # Ansible's Request installs its opener, with the proxies of some other test, for everybody.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as answer:
            return json.load(answer)

    def fault(self, path: str, kind: str, **more: Any) -> None:
        self.ask("/_faults", "PUT", {"path": path, "kind": kind, **more})

    def mend(self) -> None:
        self.ask("/_faults", "DELETE")

    def counts(self, what: str) -> dict[str, int]:
        """What was sent of each file since the start: C(bytes) or C(requests)."""
        sent = self.ask("/_sent").get("127.0.0.1", {})
        return {name.split("/", 2)[2]: count[what] for name, count in sent.items()}

    def listing(self, excluded: str = "original/") -> dict[str, Any]:
        """The listing of the small model, as model_source makes it."""
        found = self.ask(f"/api/models/{MODEL}/revision/main?blobs=true")
        below = f"{self.endpoint}/{MODEL}/resolve/{found['sha']}"
        files = [
            {
                "path": each["rfilename"],
                "size": each["size"],
                "sha256": each.get("lfs", {}).get("sha256"),
                "git_sha1": None if "lfs" in each else each["blobId"],
                "url": f"{below}/{each['rfilename']}",
            }
            for each in found["siblings"]
            if not each["rfilename"].startswith(excluded)
        ]
        names = {"model": MODEL, "revision": "main", "commit": found["sha"]}
        return {**names, "source": self.endpoint, "files": files, "excluded_bytes": 26000}

    def close(self) -> None:
        for listener in self._listeners:
            listener.state.clear_faults()
            listener.shutdown()
            listener.server_close()
