# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The edges that are measured: nginx as tests/edge runs it, with what the role renders."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_server import Edge
from engines import Loop
from rendering import ALICE, MODEL, Rendering, Variant, render

KEY = ALICE


@dataclass(frozen=True)
class Wanted:
    """An edge: the model of each engine, and variables of the role with another than the default.

    `remote` engines are on another host, as far as the role knows. `without` is a directive of the
    upstreams that is left out: the role has no variable for it.
    """

    engines: tuple[str, ...] = (MODEL,)
    variables: Mapping[str, int] | None = None
    remote: bool = False
    without: str = ""


@contextmanager
def rendered(wanted: Mapping[str, Wanted]) -> Iterator[dict[str, Rendering]]:
    with tempfile.TemporaryDirectory(prefix="edge-") as directory:
        variants = {name: _variant(one) for name, one in wanted.items()}
        renderings = render(Path(directory), variants)
        for name, one in wanted.items():
            if one.without:
                _leave_out(one.without, renderings[name])
        yield renderings


@contextmanager
def running(renderings: Mapping[str, Rendering]) -> Iterator[dict[str, Edge]]:
    """The edges without the engines of tests/edge: those check much and are slow."""
    loop = Loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        edges = {}
        for name, rendering in renderings.items():
            alone = replace(
                rendering, variant=replace(rendering.variant, engines=()), engine_ports=()
            )
            edges[name] = Edge(alone, loop)
            stack.callback(edges[name].stop)
            edges[name].start()
        yield edges


def _variant(wanted: Wanted) -> Variant:
    variables = {"edge_api_keys": {"alice": ALICE}, **(wanted.variables or {})}
    return Variant(wanted.engines, variables, remote=wanted.remote)


def _leave_out(directive: str, rendering: Rendering) -> None:
    upstreams = rendering.tree / "etc/nginx/vllm/upstreams.conf"
    text, dropped = re.subn(rf"(?m)^\s*{directive} .*;\n", "", upstreams.read_text())
    if not dropped:
        raise RuntimeError(f"the role's {upstreams.name} has no directive {directive}")
    upstreams.write_text(text)
