# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Requests a second: short answers, as fast as they come, from a few connections at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from edge_benchmark.client import Answer, Connection, chat, connect
from edge_benchmark.figures import Figure, median_ratio

CONNECTIONS = 32


@dataclass
class Rate:
    """One value for each round: requests a second, and the processor's seconds for each."""

    a_second: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


async def measure(
    ports: Mapping[str, int],
    workers: Mapping[str, set[int]],
    key: str,
    *,
    rounds: int,
    seconds: float,
) -> dict[str, Rate]:
    """One way after the other, round for round; the first round warms up and does not count.

    `workers` are the processes of nginx, where there are some on the way.
    """
    rates = {way: Rate() for way in ports}
    for number in range(rounds + 1):
        ways = sorted(ports) if number % 2 else sorted(ports, reverse=True)
        for way in ways:
            before = _processor_seconds(workers.get(way, set()))
            requests, took = await _hammer(ports[way], key, seconds)
            if number:
                rates[way].a_second.append(requests / took)
                rates[way].processor.append(
                    (_processor_seconds(workers.get(way, set())) - before) / requests
                )
    return rates


async def _hammer(port: int, key: str, seconds: float) -> tuple[int, float]:
    request = chat(key)
    end = 0.0
    done = 0
    left = CONNECTIONS
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(connection: Connection, answer: Answer) -> None:
        nonlocal done, left
        if ended.done():
            return
        if not answer.ok:
            ended.set_exception(RuntimeError(f"status {answer.status} from port {port}"))
            return
        done += 1
        if perf_counter() < end:
            connection.send(request)
            return
        left -= 1
        if not left:
            ended.set_result(None)

    connections = [await connect(port, answered) for number in range(CONNECTIONS)]
    began = perf_counter()
    end = began + seconds
    for connection in connections:
        connection.send(request)
    await ended
    took = perf_counter() - began
    for connection in connections:
        connection.close()
    return done, took


def _processor_seconds(processes: Iterable[int]) -> float:
    stats = [Path(f"/proc/{process}/stat").read_text() for process in processes]
    # User and system time are the 12th and 13th field after the name, which may hold anything.
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def figures(rates: Mapping[str, Rate], base: str, ways: list[str]) -> list[Figure]:
    every = [rates[way] for way in (base, *ways)]
    a_second = [f"{median(rate.a_second):.0f}" for rate in every]
    ratio = median_ratio(rates[ways[0]].a_second, rates[base].a_second)
    processor = [
        f"{median(rate.processor) * 1e6:.0f}" if any(rate.processor) else "" for rate in every
    ]
    return [
        Figure(f"requests a second, {CONNECTIONS} at a time", [*a_second, f"{ratio:.2f}"]),
        Figure("processor time of nginx per request, µs", [*processor, ""]),
    ]
