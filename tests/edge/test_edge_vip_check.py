# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What keepalived asks of an edge that may hold the virtual address (role edge_vip)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import jinja2
import pytest
import yaml
from edge_server import Edge
from rendering import Rendering

ROLE = Path(__file__).resolve().parents[2] / "roles" / "edge_vip"


@pytest.fixture(scope="module")
def check() -> list[str]:
    """The command, which nothing but a constant of the role is part of: no port and no scheme."""
    text = (ROLE / "templates" / "keepalived.conf.j2").read_text()
    [script] = re.findall(r'^    script "(.*)"$', text, re.MULTILINE)
    constants = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())
    known = {name: value for name, value in constants.items() if name.startswith("_edge_vip_")}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    # keepalived splits it without a shell.
    return shlex.split(environment.from_string(script).render(known))


@contextmanager
def host_of(edge: Edge) -> Iterator[int]:
    """A descriptor of the namespace where nginx of the tests has directories of its own."""
    namespace = os.open(f"/proc/{edge.master()}/ns/mnt", os.O_RDONLY)
    try:
        yield namespace
    finally:
        os.close(namespace)


def passes(namespace: int, check: list[str]) -> bool:
    command = ["nsenter", f"--mount=/proc/self/fd/{namespace}", "--", *check]
    return subprocess.run(command, check=False, pass_fds=[namespace]).returncode == 0


@contextmanager
def asked_all_the_time(edge: Edge, check: list[str]) -> Iterator[Future[list[bool]]]:
    """What the check says while the block is at work."""
    over = threading.Event()

    def ask(namespace: int) -> list[bool]:
        answers = []
        while not over.is_set():
            answers.append(passes(namespace, check))
        return answers

    with host_of(edge) as namespace, ThreadPoolExecutor(1) as pool:
        future = pool.submit(ask, namespace)
        try:
            yield future
        finally:
            over.set()
            wait([future])


@pytest.mark.parametrize("variant", ["one", "tls"])
def test_it_is_the_same_whatever_clients_speak(
    running: Callable[[str], Edge], variant: str, check: list[str]
) -> None:
    with host_of(running(variant)) as namespace:
        assert passes(namespace, check)


def test_it_passes_all_through_a_reload(
    edge: Edge, renderings: dict[str, Rendering], check: list[str]
) -> None:
    with asked_all_the_time(edge, check) as answers:
        for name in ("one, first drained", "one"):
            edge.reload(renderings[name])
    assert set(answers.result()) == {True}


def test_it_passes_all_through_an_upgrade(edge: Edge, check: list[str]) -> None:
    """The old nginx leaves the socket to the new one, which it has started."""
    former = edge.master()
    with asked_all_the_time(edge, check) as answers:
        edge.take_over()
        edge.wait_until(lambda: not Path(f"/proc/{former}").exists(), "the old nginx ends")
    with host_of(edge) as namespace:
        assert passes(namespace, check)
    assert set(answers.result()) == {True}


def test_it_fails_where_nginx_serves_something_else(
    edge: Edge, renderings: dict[str, Rendering], check: list[str]
) -> None:
    configuration = edge.path("/etc/nginx/nginx.conf")
    ours = configuration.read_text()
    configuration.write_text(
        "pid /run/nginx.pid; events {} http { server {"
        f" listen 127.0.0.1:{edge.port}; location = /healthz {{ return 200; }}"
        " } }"
    )
    try:
        edge.signal(signal.SIGHUP)
        with host_of(edge) as namespace:
            edge.wait_until(lambda: not passes(namespace, check), "the socket goes")
        assert edge.ask("GET", "/healthz").status == 200
    finally:
        configuration.write_text(ours)
        edge.reload(renderings["one"])
