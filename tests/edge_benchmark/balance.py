# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""How evenly many workers that know nothing of each other spread streams over the engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rendering import MODEL

from edge_benchmark.client import Client, chat
from edge_benchmark.engine import Behaviour, Engine, here
from edge_benchmark.figures import Figure, at_most

VARIABLES = {"edge_worker_processes": 8}
ENGINES = (MODEL,) * 4
STREAMS = 32
TOKENS = 20
BEHAVIOUR = Behaviour(first_token=0.05, between_tokens=0.05)
"""A stream of one second."""


async def measure(port: int, engine_ports: Sequence[int], key: str, rounds: int) -> float:
    """The streams of the fullest engine over the mean of all, in the worst round."""
    async with here(engine_ports, BEHAVIOUR) as engines:
        peaks = [await _round(port, engines, key) for number in range(rounds)]
    return max(peaks) * len(engine_ports) / STREAMS


async def _round(port: int, engines: Sequence[Engine], key: str) -> int:
    for engine in engines:
        engine.peak = 0
    clients = [Client(port) for number in range(STREAMS)]
    request = chat(key, tokens=TOKENS)
    answers = await asyncio.gather(*(client.ask(request) for client in clients))
    if failed := [answer.status for answer in answers if not answer.ok]:
        raise RuntimeError(f"streams of the balance ended with {failed}")
    for client in clients:
        client.close()
    return max(engine.peak for engine in engines)


def figure(worst: float, worst_without_zone: float) -> Figure:
    what = "streams of the fullest engine over the mean, 8 workers, 4 engines"
    return at_most(1.05, what, [f"{worst:.2f}", f"{worst_without_zone:.2f}"], worst)
