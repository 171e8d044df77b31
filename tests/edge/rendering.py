# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The configurations that the tests run, rendered by Ansible from the role itself.

A variant is a set of the role's variables with the engines behind the edge. All are rendered in
one run of ``ansible-playbook``, where each is a host.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[1] / "roles" / "edge" / "templates"

MODEL = "gpt-oss-20b"
OTHER_MODEL = "gpt-oss-120b"
ADAPTERS = {MODEL: ["sql", "Acme/law 'de'"], OTHER_MODEL: ["none", "models"]}
"""LoRA adapters of each model; some are called like words that nginx's names have."""

ALICE = "a11ce0" * 8
BOB = "b0b000" * 8
BOB_NEXT = "b0b111" * 8
"""Bob's next key, valid beside his first one while he changes over."""
CAROL = "ca401e" * 8
DAVE = "dafe00" * 8
ERIN = "e419e1" * 8
FRANK = "f4a2cc" * 8
KEYS = {
    **{"alice": ALICE, "bob": [BOB, BOB_NEXT], "carol": CAROL},
    **{"dave": DAVE, "erin": ERIN, "frank": FRANK},
}

INTERNAL_KEY = "e" * 64
"""What the engines ask of the edge."""


@dataclass(frozen=True)
class Variant:
    """Variables of the role, and the engines: their model, one for each."""

    engines: tuple[str, ...] = (MODEL, MODEL)
    variables: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""
    """Another variant, whose ports this one shares: it takes its place by a reload."""
    left: tuple[int, ...] = ()
    """Engines that are not in the inventory any more."""
    adapters: Mapping[str, list[str]] = field(default_factory=dict)
    """LoRA adapters of each model."""
    port: str = "edge_port"
    """The variable that says where the tests connect."""
    remote: bool = False
    """The engines are on another host than the edge, for all that the role knows."""

    @property
    def tls(self) -> bool:
        """Whether clients come by TLS."""
        return self.variables.get("edge_tls") == "files"


def variants(certificates: Path) -> dict[str, Variant]:
    """
    :param certificates: where ``certificate.pem`` and ``key.pem`` will be for the variant ``tls``.
    """
    keys = {"edge_api_keys": KEYS, "vllm_api_key": INTERNAL_KEY}
    every_path = {
        "edge_paths": [
            *("chat/completions", "completions", "responses", "models"),
            *("embeddings", "messages"),
        ]
    }
    first_drained = Variant(variables=keys, like="one", left=(0,))
    second_drained = Variant(variables=keys, like="one", left=(1,))
    tls = {
        "edge_tls": "files",
        "edge_server_names": ["edge.example.net"],
        "edge_tls_certificate": str(certificates / "certificate.pem"),
        "edge_tls_key": str(certificates / "key.pem"),
    }
    # Before the first certificate is there: no client is served.
    acme = {
        **{"edge_tls": "acme", "edge_server_names": ["edge.example.net"]},
        "edge_acme_email": "operator@example.net",
    }
    several = (MODEL, MODEL, OTHER_MODEL)
    small = {"edge_client_max_body_size": "64k"}
    limits = {
        "edge_client_rate": 1,
        "edge_client_burst": 4,
        "edge_client_concurrency": 3,
        "edge_client_limits": {
            "bob": {"rate": 1, "burst": 9, "concurrency": 0},
            "carol": {"rate": 0, "concurrency": 6},
            "erin": {"rate": 0, "concurrency": 0},
            "frank": {"rate": 1, "burst": 0},
        },
        "edge_address_connections": 8,
    }
    # Seconds for which the edge keeps idle connections; the engines of the test keep them longer.
    short_idle = {"edge_upstream_keepalive_timeout": 1, "edge_upstream_keepalive": 256}
    # Without keys the edge answers to its own names only.
    named = {"edge_server_names": ["edge.example.net"]}
    few = {"edge_worker_connections": 64, "edge_upstream_keepalive": 4}
    return {
        "one": Variant(variables=keys),
        "one, first drained": first_drained,
        "one, second drained": second_drained,
        "every path": Variant(variables=keys | every_path | {"edge_proxy_read_timeout": 1}),
        "one engine": Variant((MODEL,), keys),
        "three engines": Variant((MODEL, MODEL, MODEL), keys),
        "other host": Variant(variables=keys, remote=True),
        "five other hosts": Variant((MODEL,) * 5, keys, remote=True),
        "acme": Variant(variables=keys | acme, port="edge_acme_port"),
        "several": Variant(several, keys | every_path | small, adapters=ADAPTERS),
        "limits": Variant(variables=keys | limits),
        "open": Variant(variables=named | short_idle),
        "few connections": Variant(variables=keys | few),
        "session": Variant(variables=keys | {"edge_session_header": "X-Session-Id"}),
        "tls": Variant(several, keys | tls | {"edge_plain_http": False}),
    }


@dataclass(frozen=True)
class Rendering:
    """A variant as it was rendered: its files are below ``tree``."""

    name: str
    variant: Variant
    tree: Path
    port: int
    engine_ports: tuple[int, ...]


def render(directory: Path, chosen: Mapping[str, Variant]) -> dict[str, Rendering]:
    """
    :raises RuntimeError: Ansible failed; the message has its output.
    """
    ports = free_ports()
    own_ports = {
        name: (next(ports), tuple(next(ports) for _engine in variant.engines))
        for name, variant in chosen.items()
    }
    renderings = {
        name: Rendering(name, variant, directory / str(number), *own_ports[variant.like or name])
        for number, (name, variant) in enumerate(chosen.items())
    }
    # Outside of the role, Ansible looks for templates beside the playbook.
    playbook = directory / "rendering.yml"
    shutil.copy(HERE / "rendering.yml", playbook)
    (directory / "templates").symlink_to(TEMPLATES)
    local = [one for one in renderings.values() if not one.variant.remote]
    runs = [{"edges": {one.tree.name: _host(one, one.variant) for one in local}}]
    # In one inventory all edge hosts would share all engines.
    for one in renderings.values():
        if one.variant.remote:
            apart = _host(one, one.variant)
            plan = {"__vllm_plan": apart.pop("__vllm_plan")}
            names = {"edge_hosts": {one.tree.name: apart}, "gpu_hosts": {"elsewhere": plan}}
            runs.append({"edges": {one.tree.name: {}}, **names})
    with ThreadPoolExecutor() as pool:
        list(pool.map(_play, (directory / f"{number}.json" for number in range(len(runs))), runs))
    return renderings


def _play(inventory: Path, groups: Mapping[str, Any]) -> None:
    children = {group: {"hosts": hosts} for group, hosts in groups.items()}
    # The host's Python is the one that has apt's bindings, as on real hosts.
    everywhere = {"ansible_python_interpreter": "/usr/bin/python3"}
    inventory.write_text(json.dumps({"all": {"children": children, "vars": everywhere}}))
    program = Path(sys.executable).parent / "ansible-playbook"
    playbook = inventory.parent / "rendering.yml"
    command = [str(program), "--forks", "2", "--inventory", str(inventory), str(playbook)]
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"The role's templates could not be rendered:\n{done.stdout}")


def _host(rendering: Rendering, variant: Variant) -> dict[str, Any]:
    endpoints = [
        {
            "name": f"{model}-{number}",
            "model": model,
            "served_name": model,
            "adapters": variant.adapters.get(model, []),
            "address": "127.0.0.1",
            "port": port,
        }
        for number, (model, port) in enumerate(
            zip(variant.engines, rendering.engine_ports, strict=True)
        )
        if number not in variant.left
    ]
    own = {
        "edge_tree": str(rendering.tree),
        variant.port: rendering.port,
        "__vllm_plan": {"endpoints": endpoints},
    }
    return own | dict(variant.variables)


def free_ports() -> Iterator[int]:
    """Ports on which nothing listens, below those that the kernel gives to outgoing connections."""
    candidates = list(range(12000, 32000))
    random.shuffle(candidates)
    for port in candidates:
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
