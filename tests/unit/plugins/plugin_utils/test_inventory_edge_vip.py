# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An address that edge hosts share: what the inventory may say of it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_edge_vip import (
    check_edge_vip,
)
from ansible_collections.baremetal.vllm.tests.unit.plugins.plugin_utils import inventory_hosts

EDGE: dict[str, Any] = {
    "edge_vip_address": "192.0.2.10/24",
    "edge_vip_router_id": 51,
    "edge_listen_address": "0.0.0.0",
    "edge_port": 8443,
    "edge_tls": "files",
}
EDGES = ["edge-1", "edge-2"]
SYNTAX = (
    "it must be an IPv4 address that a host can have, with the length of its network's prefix,"
    " such as 192.0.2.10/24."
)


def said(
    changes: dict[str, Any],
    host: str = "edge-1",
    edges: list[str] | None = None,
    other: dict[str, Any] | None = None,
) -> list[str]:
    """What is said of a host; `other` changes what the other edge hosts have."""
    hostvars = {name: EDGE | (other or {}) for name in {*EDGES} - {host}}
    return check_edge_vip(host, EDGE | changes, EDGES if edges is None else edges, hostvars)


@pytest.mark.parametrize("host", EDGES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"edge_vip_address": "192.0.2.10/32"},
        {"edge_vip_address": "192.0.2.0/31"},
        {"edge_vip_address": "10.0.0.255/16"},
        {"edge_tls": "self_signed"},
        {"edge_vip_priority": 7},
    ],
)
def test_what_is_allowed(host: str, changes: dict[str, Any]) -> None:
    assert said(changes, host, other=changes) == []


def test_without_an_address_nothing_else_matters() -> None:
    none = {"edge_vip_address": "", "edge_listen_address": "127.0.0.1", "edge_tls": "acme"}
    assert said(none, edges=[]) == []
    assert said(none, edges=["edge-1"]) == []
    assert said(none, other={"edge_vip_address": "192.0.2.10/24"}) == [], "the other host says so"


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.10",
        "192.0.2.300/24",
        "192.0.2.10/33",
        "192.0.2.10/0",
        "192.0.2.0/24",
        "192.0.2.255/24",
        "127.0.0.2/8",
        "224.0.0.18/32",
        "0.0.0.0/32",
        "2001:db8::10/64",
        "edge.example.net",
    ],
)
def test_what_is_no_address_of_a_host_is_refused(address: str) -> None:
    problems = said({"edge_vip_address": address}, other={"edge_vip_address": address})
    assert problems == [f"edge-1: edge_vip_address is '{address}'; {SYNTAX}"]


@pytest.mark.parametrize(
    ("host", "edges", "found"),
    [("edge-1", ["edge-1"], "one host"), ("gpu-1", [], "no host")],
)
def test_two_edge_hosts_are_needed(host: str, edges: list[str], found: str) -> None:
    assert said({}, host, edges) == [
        f"{host}: edge_vip_address is '192.0.2.10/24', and group edge_hosts has {found}; put the"
        " hosts that share it there, two or more, or leave edge_vip_address empty."
    ]


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.10", "192.0.2.11", "::"])
def test_an_edge_has_to_listen_on_all_addresses(address: str) -> None:
    assert said({"edge_listen_address": address}) == [
        f"edge-1: edge_vip_address is '192.0.2.10/24', and edge_listen_address is '{address}';"
        " set it to 0.0.0.0: an edge listens on an address that it does not hold yet by"
        " listening on all."
    ]


def test_challenges_of_acme_do_not_reach_every_edge() -> None:
    assert said({"edge_tls": "acme"}) == [
        "edge-1: edge_vip_address is '192.0.2.10/24', and edge_tls is acme, whose challenges reach"
        " only the host that holds the address; bring one certificate to all edge hosts and set"
        " edge_tls: files."
    ]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"edge_vip_address": ""}, "edge_vip_address is 192.0.2.10/24, but empty on edge-2"),
        (
            {"edge_vip_address": "192.0.2.11/24"},
            "edge_vip_address is 192.0.2.10/24, but 192.0.2.11/24 on edge-2",
        ),
        ({"edge_vip_router_id": 52}, "edge_vip_router_id is 51, but 52 on edge-2"),
        ({"edge_port": "443"}, "edge_port is 8443, but 443 on edge-2"),
    ],
)
def test_hosts_that_share_an_address_agree(other: dict[str, Any], words: str) -> None:
    assert said({}, other=other) == [f"edge-1: {words}; hosts that share an address need the same."]
    if other.get("edge_vip_address") != "":
        assert said(other, "edge-2") == [], "the first host says so"


def test_first_host_without_the_address_is_told_of_by_the_others() -> None:
    assert said({}, "edge-2", other={"edge_vip_address": ""}) == [
        "edge-2: edge_vip_address is 192.0.2.10/24, but empty on edge-1; hosts that share an"
        " address need the same."
    ]


def test_the_inventory_is_checked_for_it() -> None:
    changes = {"edge_vip_address": "192.0.2.10/24", "edge_vip_router_id": 256}
    problems = inventory_hosts.problems(changes)
    assert "gpu-1: edge_vip_router_id is 256; allowed are 1 to 255." in problems
    assert any("group edge_hosts has no host" in problem for problem in problems)
