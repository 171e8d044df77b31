# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Edges for the tests: each variant is rendered once and started when a test first asks for it."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_server import Edge
from engines import Loop
from rendering import Rendering, render, variants
from slow_clients import SlowClients


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    """Not pytest's: the paths of Unix sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="edge-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def certificates(directory: Path) -> Path:
    """A directory with a certificate of a CA that only the tests know, the CA's, and the key."""
    target = directory / "certificates"
    target.mkdir()
    made = (
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "90", "-subj", "/CN=edge.example.net"),
        *("-addext", "subjectAltName=DNS:edge.example.net,IP:127.0.0.1"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
        *("-keyout", str(target / "key.pem"), "-out", str(target / "certificate.pem")),
    )
    subprocess.run(made, check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def renderings(directory: Path, certificates: Path) -> dict[str, Rendering]:
    try:
        return render(directory, variants(certificates))
    except RuntimeError as error:
        # Said once: not one test can go on.
        pytest.exit(str(error), returncode=1)


@pytest.fixture
def trusting(certificates: Path) -> ssl.SSLContext:
    """What a client knows who trusts the edge's certificate; its own, as clients change it."""
    return ssl.create_default_context(cafile=str(certificates / "certificate.pem"))


@pytest.fixture(scope="session")
def running(
    renderings: dict[str, Rendering], certificates: Path
) -> Iterator[Callable[[str], Edge]]:
    loop = Loop()
    edges: dict[str, Edge] = {}
    trusting = ssl.create_default_context(cafile=str(certificates / "certificate.pem"))
    with contextlib.ExitStack() as stack:
        stack.callback(loop.close)

        def get(name: str) -> Edge:
            if name not in edges:
                rendering = renderings[name]
                tls = trusting if rendering.variant.tls else None
                edge = Edge(rendering, loop, tls)
                stack.callback(edge.stop)
                edge.start()
                edges[name] = edge
            return edges[name]

        yield get


@pytest.fixture(scope="session")
def slow_clients(running: Callable[[str], Edge]) -> Iterator[SlowClients]:
    clients = SlowClients(running("three engines"))
    yield clients
    clients.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow clients are judged last: until then they have nearly come to their end."""
    items.sort(key=lambda item: item.path.stem == "test_edge_slow_clients")


@pytest.fixture
def edge(
    request: pytest.FixtureRequest, running: Callable[[str], Edge], slow_clients: SlowClients
) -> Iterator[Edge]:
    """The edge of the variant that the test's module names in ``VARIANT``, or its marker."""
    marker = request.node.get_closest_marker("variant")
    name = marker.args[0] if marker else getattr(request.module, "VARIANT", "one")
    edge = running(name)
    edge.forget()
    yield edge
    unexpected = edge.unexpected_errors()
    edge.forget()
    assert unexpected == []
