# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the edge costs and what it keeps: `make edge-benchmark`. See docs/edge-benchmark.md."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from edge_server import Edge
from rendering import MODEL, OTHER_MODEL, Rendering
from steps.edge import NGINX
from steps.packages import installed
from steps.report import Report
from steps.surroundings import environment

from edge_benchmark import balance, keep_alive, latency, outage, rate
from edge_benchmark.edges import KEY, Wanted, rendered, running
from edge_benchmark.engine import Behaviour, in_a_process, without_collector
from edge_benchmark.figures import Figure, table

LIMIT = 110.0
"""Seconds for everything but the rendering."""

BURSTS = 16
STEADY = 1.2
"""p99 over p50 of a machine that does nothing else; beyond, the figures are of the other work."""

WAYS = {
    "edge": Wanted(),
    "edge, two models": Wanted((MODEL, OTHER_MODEL)),
    "edge, keep-alive off": Wanted(without="keepalive"),
}
OTHERS = {
    "closes first": Wanted(variables={"edge_upstream_keepalive_timeout": keep_alive.FIRST}),
    "closes last": Wanted(variables={"edge_upstream_keepalive_timeout": keep_alive.LAST}),
    "balance": Wanted(balance.ENGINES, balance.VARIABLES),
    "no zone": Wanted(balance.ENGINES, balance.VARIABLES, without="zone"),
    "this host": Wanted(outage.ENGINES),
    "other hosts": Wanted(outage.ENGINES, remote=True),
}

Renderings = Mapping[str, Rendering]
Edges = Mapping[str, Edge]
Tables = dict[tuple[str, ...], list[Figure]]


def main() -> int:
    if not installed(Report(), *NGINX):
        return 1
    os.environ.update(environment())  # for Ansible, which renders
    try:
        tables = _run()
    except TimeoutError:
        print(f"Not done after {LIMIT:.0f} s: this machine is too slow or too busy to measure on.")
        return 1
    except RuntimeError as error:
        print(error)
        return 1
    for titles, figures in tables.items():
        print(f"\n{table(titles, figures)}")
    missed = [figure.what for figures in tables.values() for figure in figures if not figure.ok]
    print(f"\nMissed: {'; '.join(missed)}" if missed else "\nEvery target is met.")
    return 1 if missed else 0


def _run() -> Tables:
    with ExitStack() as stack:
        _say("The role renders the edges, and nginx starts")
        renderings = stack.enter_context(rendered(WAYS | OTHERS))
        edges = stack.enter_context(running(renderings))
        stack.enter_context(in_a_process(_engines(renderings)))
        without_collector()
        return asyncio.run(asyncio.wait_for(_measure(renderings, edges), LIMIT))


def _engines(renderings: Renderings) -> dict[int, Behaviour]:
    """The engines that run apart from the client: those that must be fast or on time."""
    closing = Behaviour(keep_alive=keep_alive.ENGINE)
    behaviours = {
        **dict.fromkeys(WAYS, Behaviour()),
        "closes first": closing,
        "closes last": closing,
    }
    return {renderings[name].engine_ports[0]: one for name, one in behaviours.items()}


async def _measure(renderings: Renderings, edges: Edges) -> Tables:
    return {
        ("", "direct", *WAYS, "edge / direct"): await _costs(renderings, edges),
        ("", "edge", "control"): await _promises(renderings, edges),
    }


async def _costs(renderings: Renderings, edges: Edges) -> list[Figure]:
    ports = {"direct": renderings["edge"].engine_ports[0]} | {way: edges[way].port for way in WAYS}
    _say("Time to the first token and gaps between tokens")
    rounds = await latency.measure(ports, KEY, rounds=8, seconds=4, warm_up=2)
    if (unsteady := latency.unsteadiness(rounds, "direct")) > STEADY:
        _say(f"This machine is busy: p99 is {unsteady:.2f} times p50 without an edge, too")
    _say("Requests a second")
    workers = {way: edges[way].workers() for way in WAYS}
    rates = await rate.measure(ports, workers, KEY, rounds=5, seconds=0.8)
    ways = list(WAYS)
    return [*latency.figures(rounds, "direct", ways), *rate.figures(rates, "direct", ways)]


async def _promises(renderings: Renderings, edges: Edges) -> list[Figure]:
    def way(name: str) -> tuple[int, tuple[int, ...], str]:
        return edges[name].port, renderings[name].engine_ports, KEY

    _say("Balance")
    even = await balance.measure(*way("balance"), rounds=3)
    uneven = await balance.measure(*way("no zone"), rounds=3)
    _say("Keep-alive; engines that were away")
    lost, lost_by_control, this_host, other_hosts = await asyncio.gather(
        keep_alive.measure(edges["closes first"].port, KEY, bursts=BURSTS),
        keep_alive.measure(edges["closes last"].port, KEY, bursts=BURSTS, wait=1),
        outage.measure(*way("this host")),
        outage.measure(*way("other hosts")),
    )
    return [
        keep_alive.figure(lost, lost_by_control, bursts=BURSTS),
        balance.figure(even, uneven),
        outage.figure("this host", this_host),
        outage.figure("other hosts", other_hosts),
    ]


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
