# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Clients that are slow are cut; see slow_clients.py. They began before all other tests."""

from __future__ import annotations

import pytest
from edge_server import Edge
from slow_clients import SlowClients

VARIANT = "three engines"


@pytest.mark.parametrize(
    ("sender", "least", "most"),
    [
        ("a header letter by letter", 9, 30),
        ("a header that stops", 9, 30),
        ("nothing at all", 9, 30),
        ("a body that stops", 29, 60),
    ],
)
def test_a_slow_client_is_cut_and_others_are_served(
    slow_clients: SlowClients, edge: Edge, sender: str, least: int, most: int
) -> None:
    assert edge.chat().status == 200
    end = slow_clients.end_of(sender)
    assert least < end.seconds < most
    # Without a word, or with one that says why.
    assert end.answer == b"" or end.answer.startswith(b"HTTP/1.1 408 ")
    assert b"<html" not in end.answer
