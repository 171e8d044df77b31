# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""POSTs that arrive just when the engine closes connections that were idle for too long.

nginx reuses the connection that it used last, so each burst finds one whose time is just up for
every request: some milliseconds before for the first ones, some after for the last.
"""

from __future__ import annotations

import asyncio
from statistics import median
from time import perf_counter

from edge_benchmark.client import Client, chat
from edge_benchmark.figures import Figure

ENGINE = 2
"""Seconds after which the engine closes an idle connection."""
FIRST, LAST = 1, 60
"""Seconds after which the edge does: the proportion of the roles' defaults, 60 to 120, and the
control, which leaves it to the engine."""

CONNECTIONS = 60
EARLIEST, LATEST = -0.002, 0.001
"""Seconds between the engine's close and the middle of a burst; it varies from burst to burst."""


async def measure(port: int, key: str, *, bursts: int, wait: float = 0) -> int:
    """How many requests were lost. After `wait` seconds: bursts at a time would disturb another."""
    request = chat(key)
    clients = [Client(port) for number in range(CONNECTIONS)]
    await asyncio.sleep(wait)
    middle, _failed = await _burst(clients, request)
    lost = 0
    for number in range(bursts):
        offset = EARLIEST + (LATEST - EARLIEST) * number / max(1, bursts - 1)
        await asyncio.sleep(middle + ENGINE + offset - perf_counter())
        middle, failed = await _burst(clients, request)
        lost += failed
    for client in clients:
        client.close()
    return lost


async def _burst(clients: list[Client], request: bytes) -> tuple[float, int]:
    """Ask on all connections at once.

    :returns: when half of the answers were there, and how many were none.
    """
    ended: list[float] = []

    async def ask(client: Client) -> bool:
        answer = await client.ask(request)
        ended.append(perf_counter())
        return answer.ok

    succeeded = await asyncio.gather(*map(ask, clients))
    return median(ended), succeeded.count(False)


def figure(lost: int, lost_by_control: int, bursts: int) -> Figure:
    """If the control lost none either, the close was not hit, and the 0 says nothing."""
    return Figure(
        f"POSTs lost at the engine's keep-alive close, of {bursts * CONNECTIONS}",
        [str(lost), str(lost_by_control)],
        "0, and more by the control",
        lost == 0 < lost_by_control,
    )
