# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Removes everything that any lab made on this machine, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab import settings


def clean(client: Any, say: Callable[[str], None]) -> None:
    """Remove containers, volumes, networks and images by label, images by their names too."""
    ours = {"label": settings.LABEL}
    containers = client.containers.list(all=True, filters=ours)
    for container in containers:
        container.remove(force=True, v=True)
    volumes = client.volumes.list(filters=ours)
    for volume in volumes:
        volume.remove(force=True)
    networks = client.networks.list(filters=ours)
    for network in networks:
        network.remove()
    say(f"removed {len(containers)} containers, {len(volumes)} volumes, {len(networks)} networks")
    say(f"removed {_remove_images(client)} images")
    say("Docker itself stays: installed and running, if the lab started it.")


def is_ours(tag: str) -> bool:
    """Whether a tag is one that only the lab gives."""
    return tag.startswith((f"{settings.IMAGES}/", f"{settings.REGISTRY_ADDRESS}/"))


def _remove_images(client: Any) -> int:
    labelled = client.images.list(filters={"label": settings.LABEL})
    # Newest first: an image cannot go before what was built on it.
    for image in sorted(labelled, key=lambda i: str(i.attrs["Created"]), reverse=True):
        client.images.remove(image.id, force=True)
    # Of an image without the label only our names go: it may have others.
    named = [tag for image in client.images.list() for tag in image.tags if is_ours(tag)]
    for tag in named:
        client.images.remove(tag)
    return len(labelled) + len(named)
