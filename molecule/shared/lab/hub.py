# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's hub of models, which stands for huggingface.co: one for all labs of this machine."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from lab import images, registry, settings
from lab.error import LabError

_SECONDS = 120  # it hashes every file first
_SERVER = Path(__file__).resolve().parents[1] / "hub" / "server.py"


def ensure(client: Any) -> dict[str, Any]:
    """Make the hub run; its endpoint and the commit of every model, also kept in a file.

    The file spares inventories a Docker client: they read it with a lookup.
    """
    registry.ensure_network(client)
    registry.ensure_volume(client, settings.MODELS_VOLUME)
    container = _find(client)
    if container is None:
        container = _create(client)
    if container.status != "running":
        container.start()
        container.reload()
    networks = container.attrs["NetworkSettings"]["Networks"]
    endpoint = f"http://{networks[settings.NETWORK]['IPAddress']}:{settings.HUB_PORT}"
    found = {"endpoint": endpoint, "models": _models(endpoint)}
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = settings.HUB_FILE.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(found, indent=2) + "\n")
    unfinished.replace(settings.HUB_FILE)
    return found


def _command() -> list[str]:
    # The text itself, not a path: the engine need not see this machine's files.
    port = str(settings.HUB_PORT)
    return ["python3", "-u", "-c", _SERVER.read_text(), settings.MODELS_DIRECTORY, port]


def _find(client: Any) -> Any:
    """The hub's container, unless it is missing or made from another server or image."""
    import docker.errors  # type: ignore[import-untyped,unused-ignore]

    try:
        container = client.containers.get(settings.HUB)
    except docker.errors.NotFound:
        return None
    made_from = container.attrs["Config"]
    if (made_from["Image"], made_from["Cmd"]) == (_image(), _command()):
        return container
    container.remove(force=True)
    return None


def _image() -> str:
    return images.base(settings.HUB_SUITE)


def _create(client: Any) -> Any:
    return client.containers.create(
        _image(),
        _command(),
        name=settings.HUB,
        hostname=settings.HUB_ALIAS,
        init=True,
        labels={settings.LABEL: settings.SHARED},
        volumes={settings.MODELS_VOLUME: {"bind": settings.MODELS_DIRECTORY, "mode": "ro"}},
        network=settings.NETWORK,
        networking_config={
            settings.NETWORK: client.api.create_endpoint_config(aliases=[settings.HUB_ALIAS])
        },
    )


def _models(endpoint: str) -> dict[str, str]:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{endpoint}/api/models", timeout=10) as answer:
                return {model["id"]: model["sha"] for model in json.load(answer)}
        except OSError:
            time.sleep(0.1)
    raise LabError(
        f"The hub does not answer on {endpoint} after {_SECONDS} s: "
        f"see `docker logs {settings.HUB}`."
    )
