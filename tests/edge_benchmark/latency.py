# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Time to the first token and gaps between tokens, on several ways to one engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter

from edge_benchmark.client import Answer, Client, chat
from edge_benchmark.figures import Figure, at_most, median_ratio, percentile

STREAMS = 16
TOKENS = 8

Round = dict[str, list[Answer]]
Kind = Callable[[Sequence[Answer]], list[float]]


async def measure(
    ports: Mapping[str, int], key: str, *, rounds: int, seconds: float, warm_up: float
) -> list[Round]:
    """Ask on all ways in turn, `STREAMS` at a time; one round is all that began in it."""
    finished: list[Round] = [{way: [] for way in ports} for each in range(rounds)]
    begin = perf_counter() + warm_up
    end = begin + rounds * seconds

    async def stream() -> None:
        clients = {way: Client(port) for way, port in ports.items()}
        request = chat(key, tokens=TOKENS)
        while perf_counter() < end:
            # All ways once, in an order that changes: none always comes after the same other.
            pauses = random.sample(range(10_000), len(clients))
            for way, pause in zip(random.sample(list(clients), len(clients)), pauses, strict=True):
                await asyncio.sleep(pause / 1e6)
                began = perf_counter()
                answer = await clients[way].ask(request)
                if not answer.ok or len(answer.tokens) != TOKENS:
                    raise RuntimeError(f"{way}: status {answer.status}, {answer.tokens}")
                if begin <= began < end:
                    finished[int((began - begin) / seconds)][way].append(answer)
        for client in clients.values():
            client.close()

    await asyncio.gather(*(stream() for number in range(STREAMS)))
    return finished


def figures(rounds: Sequence[Round], base: str, ways: Sequence[str]) -> list[Figure]:
    """Medians over the rounds in milliseconds; the last column is `ways[0]` over `base`."""

    def line(what: str, share: float, kind: Kind) -> tuple[str, list[str], float]:
        values = {
            way: [percentile(kind(answers[way]), share) for answers in rounds]
            for way in (base, *ways)
        }
        ratio = median_ratio(values[ways[0]], values[base])
        columns = [f"{median(values[way]) * 1000:.2f}" for way in (base, *ways)]
        return what, [*columns, f"{ratio:.3f}"], ratio

    gap_p50, columns_p50, _ratio = line("gap between tokens, p50, ms", 0.5, _gaps)
    gap_p99, columns_p99, _ratio = line("gap between tokens, p99, ms", 0.99, _gaps)
    return [
        at_most(1.02, *line("time to the first token, p50, ms", 0.5, _first_tokens)),
        at_most(1.07, *line("time to the first token, p99, ms", 0.99, _first_tokens)),
        Figure(gap_p50, columns_p50),
        Figure(gap_p99, columns_p99),
    ]


def unsteadiness(rounds: Sequence[Round], base: str) -> float:
    """How far the slowest answers without an edge are from the usual ones: p99 over p50."""
    values = [_first_tokens(answers[base]) for answers in rounds]
    return median(percentile(one, 0.99) / percentile(one, 0.5) for one in values)


def _first_tokens(answers: Sequence[Answer]) -> list[float]:
    return [answer.first_token for answer in answers]


def _gaps(answers: Sequence[Answer]) -> list[float]:
    return [gap for answer in answers for gap in answer.gaps]
