# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What an inventory may say of the address that edge hosts share (role edge_vip)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import shown

Variables = Mapping[str, Any]

_SHARED = ("edge_vip_address", "edge_vip_router_id", "edge_port")


def check_edge_vip(
    hostname: str,
    edge: Variables,
    edges: Sequence[str],
    hostvars: Mapping[str, Variables],
) -> list[str]:
    """All that keeps an edge from holding the virtual address, one sentence each.

    :param edge: variables of the host, which is an edge.
    :param edges: the hosts of the group edge_hosts; without any, every GPU host fronts itself.
    :param hostvars: variables by host; of edges, and only where this one has an address.
    """
    given = edge.get("edge_vip_address", "")
    if not given:
        return []
    place = f"{hostname}: edge_vip_address is {shown(given)}"
    problems = []
    if not _is_for_hosts(given):
        problems.append(
            f"{place}; it must be an IPv4 address that a host can have, with the length of its"
            " network's prefix, such as 192.0.2.10/24."
        )
    if len(edges) < 2:
        problems.append(
            f"{place}, and group edge_hosts has {'one host' if edges else 'no host'}; put the hosts"
            " that share it there, two or more, or leave edge_vip_address empty."
        )
    listens = edge.get("edge_listen_address", "")
    if not _is_every_address(listens):
        problems.append(
            f"{place}, and edge_listen_address is {shown(listens)}; set it to 0.0.0.0: an edge"
            " listens on an address that it does not hold yet by listening on all."
        )
    if edge.get("edge_tls") == "acme":
        problems.append(
            f"{place}, and edge_tls is acme, whose challenges reach only the host that holds the"
            " address; bring one certificate to all edge hosts and set edge_tls: files."
        )
    return problems + _disagreements(hostname, edge, edges, hostvars)


def _is_every_address(text: str) -> bool:
    """nginx on `::` leaves IPv4 out."""
    try:
        return ipaddress.IPv4Address(text).is_unspecified
    except ValueError:
        return False


def _is_for_hosts(text: str) -> bool:
    try:
        found = ipaddress.IPv4Interface(text)
    except ValueError:
        return False
    special = found.ip.is_loopback or found.ip.is_multicast or found.ip.is_unspecified
    ends = (found.network.network_address, found.network.broadcast_address)
    between = found.network.prefixlen > 30 or found.ip not in ends
    return "/" in text and found.network.prefixlen > 0 and not special and between


def _disagreements(
    hostname: str, edge: Variables, edges: Sequence[str], hostvars: Mapping[str, Variables]
) -> list[str]:
    """Where hosts would not share the address, but quarrel over it. The first host tells."""
    if len(edges) < 2 or hostname not in edges:
        return []
    first, *others = edges
    if hostname != first:
        if hostvars[first].get("edge_vip_address"):
            return []
        others = [first]
    return [
        f"{hostname}: {name} is {edge[name]}, but {hostvars[other][name] or 'empty'} on {other};"
        " hosts that share an address need the same."
        for other in others
        for name in (_SHARED if hostname == first else _SHARED[:1])
        if name in edge
        and name in hostvars[other]
        and str(edge[name]) != str(hostvars[other][name])
    ]
