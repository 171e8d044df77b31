# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The lab's registry: one for all labs of this machine, its images on a volume."""

from __future__ import annotations

import http.client
import time
from typing import Any

from lab import images, settings
from lab.error import LabError

_SECONDS = 30


def ensure(client: Any) -> str:
    """Make the registry run; returns where this machine reaches it."""
    import docker.errors  # type: ignore[import-untyped,unused-ignore]

    labels = {settings.LABEL: settings.SHARED}
    ensure_network(client)
    ensure_volume(client, settings.REGISTRY)
    try:
        container = client.containers.get(settings.REGISTRY)
        if container.attrs["Config"]["Image"] != images.registry():
            container.remove(force=True)
            container = None
    except docker.errors.NotFound:
        container = None
    if container is None:
        address, port = settings.REGISTRY_ADDRESS.split(":")
        container = client.containers.create(
            images.registry(),
            name=settings.REGISTRY,
            hostname=settings.REGISTRY_ALIAS,
            labels=labels,
            ports={"5000/tcp": (address, int(port))},
            volumes={settings.REGISTRY: {"bind": "/var/lib/registry", "mode": "rw"}},
            network=settings.NETWORK,
            networking_config={
                settings.NETWORK: client.api.create_endpoint_config(
                    aliases=[settings.REGISTRY_ALIAS]
                )
            },
        )
    if container.status != "running":
        try:
            container.start()
        except docker.errors.APIError as error:
            raise LabError(
                f"The registry cannot start, free {settings.REGISTRY_ADDRESS} for it: "
                f"{error.explanation}"
            ) from error
    _wait()
    return settings.REGISTRY_ADDRESS


def ensure_network(client: Any) -> None:
    """Create the network that all labs share."""
    if not client.networks.list(names=[f"^{settings.NETWORK}$"]):
        client.networks.create(
            settings.NETWORK, driver="bridge", labels={settings.LABEL: settings.SHARED}
        )


def ensure_volume(client: Any, name: str, lab: str = settings.SHARED) -> None:
    """Create a volume of the lab; an existing one stays as it is."""
    client.volumes.create(name, labels={settings.LABEL: lab})


def _wait() -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(settings.REGISTRY_ADDRESS, timeout=2)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise LabError(
        f"The registry does not answer on {settings.REGISTRY_ADDRESS} after {_SECONDS} s: "
        f"see `docker logs {settings.REGISTRY}`."
    )
