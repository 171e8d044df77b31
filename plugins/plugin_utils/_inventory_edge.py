# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the variables of an edge must be, each alone and all of them together.

Part of ``_inventory``: pure functions, variables in, sentences out, and the value of no secret.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    adapter_names,
    is_present,
    port_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_tables import (
    CLIENT_LIMITS,
    out_of_range,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import (
    check_value,
    kind,
    shown,
)

Variables = Mapping[str, Any]

PLACEHOLDER = "is a placeholder that everyone knows; make a key with `openssl rand -hex 32`."

_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Clients are keys of nginx's maps, which take these words for their own, in quotes, too.
_MAP_WORDS = ("default", "include")
# The upstream of all engines, roles/edge/templates/vllm/upstreams.conf.j2.
_ALL = "all"
# nginx compares such keys without regard to case, so only one case is let in.
_CLIENT_KEY = re.compile(r"[0-9a-f]{32,128}")
# A name like this is a key in the wrong place, which no sentence may repeat.
_MAYBE_KEY = re.compile(r"[0-9A-Fa-f]{32,}")
_MOST_KEYS = 4
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# roles/edge/tasks/verify.yml asks for both.
_PROVED_PATHS = ("chat/completions", "models")
# The last label of a name has a letter: else it would be an address that is none.
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?=[^.]*[A-Za-z]){_LABEL}")

# What each kind of TLS needs, and what a sentence asks for.
_NEEDED = {
    "files": {
        "edge_tls_certificate": "give the path on this host of the certificate with its chain",
        "edge_tls_key": "give the path on this host of the certificate's key",
    },
    "acme": {
        "edge_server_names": "name the DNS names of this edge",
        "edge_acme_email": "give an address to which the authority writes",
    },
    "self_signed": {"edge_server_names": "name the DNS names or addresses of this edge"},
}


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_placeholder(key: str) -> bool:
    """Keys of one repeated digit, as examples have them."""
    return len(set(key)) == 1


def upstream_word(name: str) -> str:
    """A served name as names in nginx's configuration hold it."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def client_problem(client: Any) -> str:
    """What is wrong with the name of a client; empty where nothing is."""
    if _MAYBE_KEY.fullmatch(str(client)):
        return "looks like a key and is not shown; a client's name comes first, its key behind it."
    if client is None or isinstance(client, bool):
        return f"is {kind(client)}; quote it as you wrote it."
    if not isinstance(client, str):
        words = "a date" if isinstance(client, datetime.date) else kind(client)
        return f'is {words}; quote it: "{client}".'
    if not _CLIENT_NAME.fullmatch(client):
        return "must be a name of letters, digits, dots, dashes and underscores, 64 at most."
    if client.lower() in _MAP_WORDS:
        return "is a word of nginx's own; give the client another name."
    return ""


def client_shown(client: Any) -> str:
    """The name of a client as a sentence may repeat it."""
    return "(not shown)" if _MAYBE_KEY.fullmatch(str(client)) else str(client)


def check_edge_values(hostname: str, values: Variables) -> list[str]:
    """What is wrong with keys, limits and names, whatever host they are set for."""
    problems = (*_clients(values), *_keys(values), *_limits(values), *_server_names(values))
    return [f"{hostname}: {problem}" for problem in problems]


def check_edge(hostname: str, edge: Variables, engine: Variables) -> list[str]:
    """What is wrong with a host's variables together, as it is an edge.

    :param engine: the same variables where engines run on this host, too, else nothing.
    """
    problems = (*_exposure(edge), *_tls(edge), *_paths(edge), *_ports(edge, engine))
    return [f"{hostname}: {problem}" for problem in problems]


def check_served_names(hostname: str, served: Mapping[str, str]) -> list[str]:
    """What is wrong with the names behind one edge together.

    :param served: name -> a host that serves it.
    """
    problems: list[str] = []
    words: dict[str, str] = {}
    for name, host in sorted(served.items()):
        other = words.setdefault(upstream_word(name), name)
        if name == _ALL:
            problems.append(
                f"{hostname}: an instance of {host} is called {name}, by which its edge means all"
                " engines together; give it another name."
            )
        elif other != name:
            problems.append(
                f"{hostname}: its edge cannot tell {other} ({served[other]}) from {name} ({host}),"
                " as nginx's names have one sign for dots and dashes; rename one of them."
            )
    return problems


def check_adapters(hostname: str, engines: Mapping[str, Variables]) -> list[str]:
    """What is wrong with the LoRA adapters behind one edge together.

    :param engines: host -> its variables.
    """
    problems: list[str] = []
    models: dict[str, tuple[str, list[str]]] = {}
    for host, variables in engines.items():
        for instance in _served(variables):
            adapters = adapter_names(instance)
            first, same = models.setdefault(str(instance["name"]), (host, adapters))
            if adapters != same:
                problems.append(
                    f"{hostname}: {instance['name']} has LoRA adapters {_listed(adapters)} on"
                    f" {host}, {_listed(same)} on {first}, and its edge asks either of them; give"
                    " both the same lora-modules."
                )
    owners = {name: f"the instance on {host}" for name, (host, _adapters) in models.items()}
    for name, (_host, adapters) in models.items():
        for adapter in adapters:
            owner = owners.setdefault(adapter, f"an adapter of {name}")
            if owner != f"an adapter of {name}":
                problems.append(
                    f"{hostname}: its edge cannot tell {adapter}, an adapter of {name}, from"
                    f" {owner}; rename one of them."
                )
    return problems


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def check_shared_names(
    hostname: str, edge: Variables, edges: Sequence[str], hostvars: Mapping[str, Variables]
) -> list[str]:
    """What is wrong with names that an edge has in common with the first one."""
    if edge.get("edge_tls") != "acme" or hostname in edges[:1] or not edges:
        return []
    theirs = {name.lower() for name in _texts(hostvars[edges[0]], "edge_server_names")}
    return [
        f"{hostname}: edge_server_names has {name}, as on {edges[0]}, but edge_tls is acme, whose"
        " authority asks one of them; give each edge a name of its own, or bring one certificate"
        " to all of them and set edge_tls: files."
        for name in _texts(edge, "edge_server_names")
        if name.lower() in theirs
    ]


def served_names(engine: Variables) -> list[str]:
    """Names that a host's instances are served under."""
    return [str(instance["name"]) for instance in _served(engine)]


def _served(engine: Variables) -> list[Variables]:
    instances = engine.get("vllm_instances", [])
    if not isinstance(instances, list):
        return []  # that host's own check says so
    return [
        instance
        for instance in instances
        if isinstance(instance, Mapping) and is_present(instance) and instance.get("name")
    ]


# -- single values -------------------------------------------------------------------------------


def _clients(values: Variables) -> Iterator[str]:
    spelt: dict[str, str] = {}
    for client in values.get("edge_api_keys", {}):
        place = f"edge_api_keys.{client_shown(client)}"
        problem = client_problem(client)
        if problem:
            yield f"{place} {problem}"
            continue
        other = spelt.setdefault(client.lower(), client)
        if other != client:
            yield (
                f"{place} differs from edge_api_keys.{client_shown(other)} in case only, which"
                " nginx does not see; rename one of them."
            )


def _keys(values: Variables) -> Iterator[str]:
    owners: dict[str, str] = {}
    if values.get("vllm_api_key"):
        owners[values["vllm_api_key"]] = "the engines, vllm_api_key"
    for client, given in values.get("edge_api_keys", {}).items():
        if _MAYBE_KEY.fullmatch(str(client)):
            continue  # told by _clients, and its value may be the name
        place = f"edge_api_keys.{client}"
        keys = given if isinstance(given, list) else [given]
        if not 1 <= len(keys) <= _MOST_KEYS:
            yield (
                f"{place} is a list of {len(keys)} keys; allowed are 1 to {_MOST_KEYS}, the old"
                " and the new one while a client changes."
            )
        for index, key in enumerate(keys):
            where = f"{place}[{index}]" if isinstance(given, list) else place
            problem = _key_problem(key, owners)
            if problem:
                yield f"{where} {problem}"
            else:
                owners[key] = str(client)


def _key_problem(key: Any, owners: Mapping[str, str]) -> str:
    if not isinstance(key, str) or not _CLIENT_KEY.fullmatch(key):
        return (
            "must be a key of 32 to 128 lower-case hex digits; make one with"
            " `openssl rand -hex 32`."
        )
    if is_placeholder(key):
        return PLACEHOLDER
    if key in owners:
        return f"has the key of {owners[key]}; give every client its own, and each key once."
    return ""


def _limits(values: Variables) -> Iterator[str]:
    clients = {str(client) for client in values.get("edge_api_keys", {})}
    spec = {"type": "dict", "options": {name: {"type": "int"} for name in CLIENT_LIMITS}}
    for client, given in values.get("edge_client_limits", {}).items():
        place = f"edge_client_limits.{client_shown(client)}"
        if not isinstance(client, str):
            yield f"{place} {client_problem(client)}"
        elif client not in clients:
            known = ", ".join(map(client_shown, sorted(clients))) or "none"
            yield (
                f"{place} is no client of edge_api_keys; known are {known}. Give it a key there, or"
                " take its limits out."
            )
        limits, problems = check_value(place, given, spec)
        yield from problems
        for name, limit in (limits or {}).items():
            problem = out_of_range(f"edge_client_{name}", limit)
            if problem:
                yield f"{place}.{name} {problem}"


def _server_names(values: Variables) -> Iterator[str]:
    seen: set[str] = set()
    for name in _texts(values, "edge_server_names"):
        if not is_address(name) and not _DNS_NAME.fullmatch(name):
            yield (
                f"edge_server_names has {shown(name)}; it must be a DNS name without wildcard,"
                " such as llm.example.net, or an IP address."
            )
        elif name.lower() in seen:
            yield f"edge_server_names has {shown(name)} twice; name it once."
        seen.add(name.lower())


def _texts(values: Variables, name: str) -> Iterable[str]:
    """The items of a list that are text; the others have been told."""
    items = values.get(name, [])
    return (item for item in items if isinstance(item, str)) if isinstance(items, list) else ()


# -- all of them together ------------------------------------------------------------------------


def _is_reached(edge: Variables) -> bool:
    """Whether other machines can connect."""
    address = edge.get("edge_listen_address", "")
    return is_address(address) and not ipaddress.ip_address(address).is_loopback


def _exposure(edge: Variables) -> Iterator[str]:
    if not _is_reached(edge):
        return
    where = f"edge_listen_address is {edge['edge_listen_address']}, which other machines reach,"
    if edge.get("edge_tls") == "none" and edge.get("edge_plain_http") is False:
        yield (
            f"{where} without TLS; set edge_tls to files, acme or self_signed, or edge_plain_http:"
            " true if you accept that, or listen on 127.0.0.1."
        )
    if edge.get("edge_api_keys") == {}:
        yield (
            f"{where} but edge_api_keys is empty; add a key for each client, as"
            " playbooks/edge_key.yml makes them."
        )


def _tls(edge: Variables) -> Iterator[str]:
    tls = edge.get("edge_tls", "")
    for name, wanted in _NEEDED.get(tls, {}).items():
        if edge.get(name) in ("", []):
            yield f"{name} is empty, but edge_tls is {tls}; {wanted}."
    unused = [name for name in _NEEDED["files"] if edge.get(name)]
    if unused and tls in ("none", "acme", "self_signed"):
        yield (
            f"{' and '.join(unused)} {'are' if unused[1:] else 'is'} set, but edge_tls is {tls},"
            " which does not use it; set edge_tls: files, or leave it out."
        )
    if tls == "acme":
        yield from _acme(edge)


def _acme(edge: Variables) -> Iterator[str]:
    """By http-01: the authority comes to the host, by a DNS name."""
    for name in _texts(edge, "edge_server_names"):
        if is_address(name):
            yield (
                f"edge_server_names has {name}, but edge_tls is acme, which gives certificates for"
                " DNS names; take the address out, or set edge_tls to files or self_signed."
            )
    address = edge.get("edge_listen_address", "")
    if is_address(address) and not _is_reached(edge):
        yield (
            f"edge_listen_address is {address}, but edge_tls is acme, whose authority has to reach"
            " this host; listen on 0.0.0.0, or set edge_tls to files or self_signed."
        )
    if edge.get("bundle_directory"):
        yield (
            "edge_tls is acme, but bundle_directory says that no network reaches this host; set"
            " edge_tls to files or self_signed."
        )


def _paths(edge: Variables) -> Iterator[str]:
    paths = edge.get("edge_paths")
    if paths is None or None in paths:
        return  # what stands there has been told
    lacking = [path for path in _PROVED_PATHS if path not in paths]
    if lacking:
        yield (
            f"edge_paths lacks {' and '.join(lacking)}, which every run proves the edge by; add"
            f" {'them' if lacking[1:] else 'it'}."
        )


def _ports(edge: Variables, engine: Variables) -> Iterator[str]:
    ports = {"edge_port": edge.get("edge_port")}
    if edge.get("edge_tls") == "acme":
        ports["edge_acme_port"] = edge.get("edge_acme_port")
        if ports["edge_port"] is not None and ports["edge_acme_port"] == ports["edge_port"]:
            yield (
                f"edge_acme_port is {ports['edge_port']}, which is edge_port too; challenges come"
                " in clear, and clients by TLS, so change edge_port, to 443 for example."
            )
            del ports["edge_acme_port"]
    for index, instance in enumerate(engine.get("vllm_instances", [])):
        for name, port in ports.items():
            if instance and is_present(instance) and port_of(instance) == port:
                yield (
                    f"vllm_instances[{index}].port is {port}, which is {name} too, and the edge is"
                    " on this host; change one of them."
                )
