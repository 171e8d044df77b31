# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The network of all labs, and the address in it that hosts may share."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from lab import registry, settings


def ensure(client: Any) -> None:
    """Create the network where it is missing, and write down the address that hosts may share.

    The file spares inventories a Docker client: they read it with a lookup.
    """
    registry.ensure_network(client)
    subnet = client.networks.get(settings.NETWORK).attrs["IPAM"]["Config"][0]["Subnet"]
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = settings.NETWORK_FILE.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"shared_address": shared_address(subnet)}) + "\n")
    unfinished.replace(settings.NETWORK_FILE)


def shared_address(subnet: str) -> str:
    """The last address of a network, with the length of its prefix: Docker gives the first ones."""
    network = ipaddress.IPv4Network(subnet)
    return f"{network.broadcast_address - 1}/{network.prefixlen}"
