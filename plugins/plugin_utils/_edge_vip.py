# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Whether a host can hold the address that edge hosts share, and on which interface."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

ROUTES = "/proc/net/route"
CONFIGURATION = "/etc/keepalived/keepalived.conf"
DROPIN = "/etc/systemd/system/keepalived.service.d/vllm.conf"
"""Written by the role edge_vip: where it is, keepalived is of this collection."""


def check_edge_vip(state: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[list[str], str]:
    """What is wrong with the address on this host, one sentence each, and its interface.

    :param state: result of host_state, with ROUTES in ``read`` and the other two in ``paths``.
    :param wanted: ``address`` with the length of its prefix, and ``interface``, which may be empty.
    """
    address = ipaddress.IPv4Interface(wanted["address"])
    interface = wanted["interface"] or interface_of(state["read"].get(ROUTES) or "", address.ip)
    problems = []
    if state.get("address") == str(address.ip):
        problems.append(
            f"edge_vip_address is {address}, the host's own address; choose one that no host has."
        )
    if not interface:
        problems.append(
            f"edge_vip_address is {address}, which no network of this host has; choose one of the"
            " network by which clients reach the edge hosts, or name edge_vip_interface."
        )
    paths = state["paths"]
    if paths[CONFIGURATION]["exists"] and not paths[DROPIN]["exists"]:
        problems.append(
            f"has a {CONFIGURATION} of its own, which edge_vip_address would replace; move it away,"
            " or leave edge_vip_address empty."
        )
    return problems, interface


def interface_of(routes: str, address: ipaddress.IPv4Address) -> str:
    """The interface of the narrowest network that has an address; empty where none has it.

    :param routes: text of ROUTES.
    """
    found = [(net.prefixlen, name) for name, net in _networks(routes) if address in net]
    return max(found)[1] if found else ""


def _networks(routes: str) -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """Interfaces and their networks; the kernel writes addresses as little-endian numbers."""
    for line in routes.splitlines()[1:]:
        name, destination, gateway, _flags, _references, _use, _metric, mask, *_rest = line.split()
        if int(gateway, 16) == 0 and int(mask, 16) != 0:
            network, width = (
                ipaddress.IPv4Address(bytes.fromhex(number)[::-1]) for number in (destination, mask)
            )
            yield name, ipaddress.IPv4Network(f"{network}/{width}")
