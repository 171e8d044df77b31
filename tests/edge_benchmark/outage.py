# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How long clients are still refused when all engines were gone and have come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from rendering import MODEL

from edge_benchmark.client import Client, chat
from edge_benchmark.engine import Behaviour, Engine, here
from edge_benchmark.figures import Figure, at_most

ENGINES = (MODEL,) * 2
AWAY = (1.1, 2.1, 3.1)
"""Seconds of the outages. nginx tries failed servers again when a whole number of seconds has
passed: engines that come back just after that wait longest."""
PAUSE, GIVE_UP = 0.01, 6.0


async def measure(port: int, engine_ports: Sequence[int], key: str) -> float:
    """Seconds from the last engine's return to the first answer, of the longest refusal."""
    async with here(engine_ports, Behaviour()) as engines:
        return max([await _outage(port, engines, key, away) for away in AWAY])


async def _outage(port: int, engines: Sequence[Engine], key: str, away: float) -> float:
    request, client = chat(key), Client(port)
    for engine in engines:
        engine.stop()
    gone = perf_counter()
    while perf_counter() < gone + away:
        if (await client.ask(request)).ok:
            raise RuntimeError("an engine answered that was stopped")
        await asyncio.sleep(PAUSE)
    for engine in engines:
        await engine.start()
    back = perf_counter()
    while not (await client.ask(request)).ok and perf_counter() < back + GIVE_UP:
        await asyncio.sleep(PAUSE)
    took = perf_counter() - back
    client.close()
    return took


def figure(where: str, refused: float) -> Figure:
    what = f"seconds to the first success after all engines return, engines on {where}"
    return at_most(1, what, [f"{refused:.3f}", ""], refused)
