# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Everything that can be said about an inventory without asking a host.

``check`` is a pure function: variables in, sentences out. Each sentence names the host, the
variable, what was given, what is allowed, and what to do. The value of a secret is in none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import check_release, nearest
from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    check_image,
    check_instance,
    is_present,
    port_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_edge import (
    PLACEHOLDER,
    check_adapters,
    check_edge,
    check_edge_values,
    check_served_names,
    check_shared_names,
    is_address,
    is_placeholder,
    served_names,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_edge_vip import (
    check_edge_vip,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_tables import (
    ADDRESSES,
    PATTERNS,
    RANGES,
    RENAMED,
    SECRETS,
    out_of_range,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import check_pins
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import Spec, check_value, shown

Variables = Mapping[str, Any]
Groups = Mapping[str, list[str]]

_PEM = re.compile(r"\s*-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\s*", re.DOTALL)
_SHORTEST_KEY = 32
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]*")


def check(
    hostname: str,
    variables: Variables,
    groups: Groups,
    hostvars: Mapping[str, Variables],
    specs: Mapping[str, Mapping[str, Spec]],
) -> list[str]:
    """All that is wrong with one host of the inventory, one sentence each.

    :param variables: names with the prefix of a role -> templated values, defaults included.
        What only facts can tell is left out.
    :param groups: group -> hosts, as Ansible has it.
    :param hostvars: the same as ``variables`` for every host; read only for an edge's backends.
    :param specs: role -> options of its entry point ``main``.
    """
    if not groups.get("gpu_hosts") and not groups.get("edge_hosts"):
        return [
            "the inventory has no host in the group gpu_hosts; name at least one GPU host there, as"
            " inventories/homelab/hosts.yml shows."
        ]
    known = {name: spec for options in specs.values() for name, spec in options.items()}
    problems = [
        _unknown_variable(hostname, name, specs, known) for name in variables if name not in known
    ]
    values: dict[str, Any] = {}
    for name, value in variables.items():
        # Null is the default of those that have no other: unset is a third answer there.
        if name in known and (value is not None or "default" in known[name]):
            converted, found = check_value(f"{hostname}: {name}", value, known[name])
            problems += found
            if converted is not None:
                values[name] = converted
    problems += _check_single_values(hostname, values)
    problems += _check_instances(hostname, values)
    problems += _check_fleet(hostname, values, groups, hostvars)
    return problems


def _unknown_variable(
    hostname: str, name: str, specs: Mapping[str, Mapping[str, Spec]], known: Mapping[str, Spec]
) -> str:
    owners = [role for role in specs if name.startswith(f"{role}_")]
    role = max(owners, key=len, default="")  # edge_vip is a role beside edge
    if name in RENAMED:
        new, since = RENAMED[name]
        return f"{hostname}: {name} is called {new} since {since}; rename it in your inventory."
    hint = nearest(name, known) or f"; names with {role}_ in front are that role's, see its README."
    return f"{hostname}: {name} is not a variable of this collection{hint}"


def _check_single_values(hostname: str, values: Variables) -> list[str]:
    problems: list[str] = []

    def report(name: str, problem: str) -> None:
        if problem:
            problems.append(f"{hostname}: {name} {problem}")

    for name in RANGES:
        if name in values:
            report(name, out_of_range(name, values[name]))
    for name, (pattern, words) in PATTERNS.items():
        given = values.get(name, [])
        for item in given if isinstance(given, list) else [given]:
            if item is not None and not re.fullmatch(pattern, item):
                # An address may carry a password before its @.
                report(name, f"is {shown(item, '@' in str(item))}; it must be {words}.")
    for name in ADDRESSES:
        unset = name == "vllm_address" and values.get(name) == ""
        if name in values and not unset and not is_address(values[name]):
            report(name, f"is {shown(values[name])}; it must be an IP address.")
    if "vllm_address" in values and is_address(values["vllm_address"]):
        address = ipaddress.ip_address(values["vllm_address"])
        if address.version != 4 or address.is_unspecified:
            report("vllm_address", f"is {address}; it must be one IPv4 address of this host.")
    key = str(values.get("vllm_api_key", ""))
    if key and is_placeholder(key):
        report("vllm_api_key", PLACEHOLDER)
    elif key and len(key) < _SHORTEST_KEY:
        report(
            "vllm_api_key",
            f"has fewer than {_SHORTEST_KEY} characters; make one with `openssl rand -hex 32`.",
        )
    for name in SECRETS:
        if not _SECRET.fullmatch(values.get(name, "")):
            report(
                name, "holds a character that it must not; letters, digits and ._~+/=- are allowed."
            )
    if "vllm_release" in values:
        report("vllm_release", check_release(values["vllm_release"]))
    if "vllm_image" in values:
        report("vllm_image", check_image(values["vllm_image"], values.get("vllm_release", "")))
    problems += check_edge_values(hostname, values)
    report("model_store_endpoint", _check_source(values))
    if values.get("vllm_registry_ca") and not _PEM.fullmatch(values["vllm_registry_ca"]):
        report(
            "vllm_registry_ca",
            "holds no certificate in PEM; give the text, as lookup('file', 'ca.pem') does.",
        )
    if bool(values.get("vllm_registry_username")) != bool(values.get("vllm_registry_password")):
        report("vllm_registry_username", "and vllm_registry_password: give both or neither.")
    problems += [f"{hostname}: {problem}" for problem in check_pins(values.get("vllm_pins", {}))]
    return problems


def _check_source(values: Variables) -> str:
    """What is wrong with where models come from."""
    provider = values.get("model_store_provider")
    endpoint = values.get("model_store_endpoint", "")
    if provider in ("http", "s3") and not endpoint:
        return f"is empty; model_store_provider is {provider}, which has no address of its own."
    return ""


def _check_instances(hostname: str, values: Variables) -> list[str]:
    release = str(values.get("vllm_release", ""))
    if check_release(release):
        release = ""  # reported already; options cannot be judged without it
    problems: list[str] = []
    names: dict[str, str] = {}
    ports: dict[int, str] = {}
    for index, instance in enumerate(values.get("vllm_instances", [])):
        if instance is None:
            continue
        place = f"{hostname}: vllm_instances[{index}]"
        problems += [f"{place}{problem}" for problem in check_instance(instance, release)]
        name = instance.get("name", "")
        if name and name in names:
            problems.append(
                f"{place}.name is {name!r}, which {names[name]} is called too; give each its own."
            )
        names.setdefault(name, f"vllm_instances[{index}]")
        port = port_of(instance)
        if not is_present(instance):
            continue
        if port in ports:
            problems.append(
                f"{place}.port is {port}, which {ports[port]} has too; give each its own."
            )
        ports.setdefault(port, f"vllm_instances[{index}]")
    return problems


def _check_fleet(
    hostname: str, values: Variables, groups: Groups, hostvars: Mapping[str, Variables]
) -> list[str]:
    engines = groups.get("gpu_hosts", [])
    edges = groups.get("edge_hosts", [])
    if edges and not engines:
        if hostname != edges[0]:
            return []
        return [
            f"{hostname}: group edge_hosts has hosts but gpu_hosts has none;"
            " put at least one GPU host into gpu_hosts."
        ]
    problems: list[str] = []
    strangers = [seed for seed in groups.get("model_seeds", []) if seed not in engines]
    if strangers and hostname == engines[0]:
        problems.append(
            f"{hostname}: group model_seeds has {', '.join(strangers)}, not in gpu_hosts; only GPU"
            " hosts have weights to serve."
        )
    is_engine = hostname in engines
    fronts = _fronts(hostname, groups)
    if is_engine and edges and edges != [hostname] and values.get("vllm_api_key") == "":
        problems.append(
            f"{hostname}: vllm_api_key is empty, but an edge is on another host"
            f" ({next(edge for edge in edges if edge != hostname)}); set a key, the same on all"
            " hosts, and keep it in a vault."
        )
    if not fronts:
        return problems
    return (
        problems
        + check_edge(hostname, values, values if is_engine else {})
        + check_shared_names(hostname, values, edges, hostvars)
        + check_edge_vip(hostname, values, edges, hostvars)
        + _check_backends(hostname, values, fronts, hostvars)
    )


def _fronts(hostname: str, groups: Groups) -> list[str]:
    """GPU hosts whose engines the edge of a host fronts; none where it is no edge."""
    engines, edges = groups.get("gpu_hosts", []), groups.get("edge_hosts", [])
    if edges:
        return engines if hostname in edges else []
    # Without a group edge_hosts every GPU host fronts itself.
    return [hostname] if hostname in engines else []


def edge_models(
    hostname: str, variables: Variables, groups: Groups, hostvars: Mapping[str, Variables]
) -> list[str]:
    """Names of the models behind the edge of a host; none where it is no edge.

    Parameters are those of :func:`check`.
    """
    return sorted(
        {
            name
            for backend in _fronts(hostname, groups)
            for name in served_names(variables if backend == hostname else hostvars[backend])
        }
    )


def _check_backends(
    hostname: str, values: Variables, fronts: list[str], hostvars: Mapping[str, Variables]
) -> list[str]:
    """What an edge and the engines behind it must agree on."""
    problems: list[str] = []
    served: dict[str, str] = {}
    idle = values.get("edge_upstream_keepalive_timeout")
    engines = {backend: values if backend == hostname else hostvars[backend] for backend in fronts}
    for backend, engine in engines.items():
        for name in served_names(engine):
            served.setdefault(name, backend)
        keep_alive = _as_int(engine.get("vllm_http_keep_alive"))
        if keep_alive is not None and idle is not None and keep_alive <= idle:
            problems.append(
                f"{backend}: vllm_http_keep_alive is {keep_alive}; it must be above"
                f" edge_upstream_keepalive_timeout, which is {idle} on {hostname}."
            )
        if backend != hostname and engine.get("vllm_api_key", "") not in (
            "",
            values.get("vllm_api_key", ""),
        ):
            problems.append(
                f"{hostname}: vllm_api_key differs from the one of {backend}, which it fronts;"
                " set the same key on all hosts."
            )
    return problems + check_served_names(hostname, served) + check_adapters(hostname, engines)


def _as_int(value: Any) -> int | None:
    convert: Callable[[Any], int] = int
    try:
        return convert(value)
    except (TypeError, ValueError):
        return None
