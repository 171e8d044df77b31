# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An address that edge hosts share: whether a host can hold it, and on which interface."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._edge_vip import (
    CONFIGURATION,
    DROPIN,
    ROUTES,
    check_edge_vip,
    interface_of,
)

# As the kernel shows them: a default route, 192.0.2.0/24, 10.0.0.0/8 behind a router, 10.1.0.0/16.
TABLE = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	100	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	100	00FFFFFF	0	0	0
eth0	0000000A	020200C0	0003	0	0	0	000000FF	0	0	0
bond1	0000010A	00000000	0001	0	0	0	0000FFFF	0	0	0
vlan7	0007010A	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


def state(**changes: Any) -> dict[str, Any]:
    """What host_state returns; `ours` and `configured` say which files are there."""
    files = {CONFIGURATION: changes.get("configured", False), DROPIN: changes.get("ours", False)}
    return {
        "address": "192.0.2.7",
        "read": {ROUTES: changes.get("routes", TABLE)},
        "paths": {path: {"exists": exists} for path, exists in files.items()},
    }


def check(address: str = "192.0.2.10/24", interface: str = "", **changes: Any) -> Any:
    return check_edge_vip(state(**changes), {"address": address, "interface": interface})


@pytest.mark.parametrize(
    ("address", "interface"),
    [
        ("192.0.2.10", "eth0"),
        ("10.1.2.3", "bond1"),
        ("10.1.7.3", "vlan7"),
        ("10.2.0.1", ""),
        ("198.51.100.1", ""),
    ],
)
def test_interface_is_that_of_the_narrowest_network(address: str, interface: str) -> None:
    assert interface_of(TABLE, ipaddress.IPv4Address(address)) == interface


def test_length_of_the_prefix_does_not_choose_the_interface() -> None:
    assert check("10.1.7.3/32") == ([], "vlan7")


def test_interface_of_the_inventory_wins() -> None:
    assert check(interface="bond1") == ([], "bond1")
    assert check("198.51.100.1/32", interface="bond1") == ([], "bond1")


@pytest.mark.parametrize("routes", [TABLE, TABLE.splitlines()[0], "", None])
def test_address_that_no_network_has_is_refused(routes: str | None) -> None:
    problems, interface = check("198.51.100.1/32", routes=routes)
    assert (problems, interface) == (
        [
            "edge_vip_address is 198.51.100.1/32, which no network of this host has; choose one of"
            " the network by which clients reach the edge hosts, or name edge_vip_interface."
        ],
        "",
    )


def test_address_of_the_host_itself_is_refused() -> None:
    assert check("192.0.2.7/24")[0] == [
        "edge_vip_address is 192.0.2.7/24, the host's own address; choose one that no host has."
    ]


def test_keepalived_of_somebody_else_is_not_taken_over() -> None:
    assert check(configured=True)[0] == [
        "has a /etc/keepalived/keepalived.conf of its own, which edge_vip_address would replace;"
        " move it away, or leave edge_vip_address empty."
    ]
    assert check(configured=True, ours=True)[0] == []
