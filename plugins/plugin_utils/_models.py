# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which weights a host needs: what the inventory names, what the host has, what the source says.

Pure: nothing here asks a host or a hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    extra_models,
    is_local,
    is_present,
    models_of,
    split_model,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import pinned_model

_GIB = 2**30
_MARGIN = 1.05
"""Files are counted in blocks, and a full disk is slow before it is full."""


def asked(instances: Iterable[Mapping[str, Any]], pins: Mapping[str, Any]) -> dict[str, str]:
    """Model as the inventory names it -> as host and source are asked for it: with its pin.

    Directories on the host are not among them.
    """
    present = [instance for instance in instances if is_present(instance)]
    return {model: pinned_model(model, pins) for each in present for model in models_of(each)}


def extra_directories(instances: Iterable[Mapping[str, Any]]) -> list[str]:
    """Directories of the host that instances read besides the one of their model."""
    present = [instance for instance in instances if is_present(instance)]
    models = [model for each in present for model in extra_models(each).values()]
    return sorted({model for model in models if is_local(model)})


def directory_of(store: str, name: str, commit: str) -> str:
    """Where the files of a model are, once they are whole."""
    return f"{store}/{name.replace('/', '--')}/{commit}"


def decide(
    wanted: Mapping[str, str],
    found: Mapping[str, Mapping[str, Any]],
    listings: Mapping[str, Mapping[str, Any]],
    store: str,
) -> dict[str, dict[str, Any]]:
    """What becomes of every model.

    :param wanted: as :func:`asked` makes it.
    :param found: `models` of host_state, by what was asked of the host; `ask` in it is what the
        source is asked for.
    :param listings: what the source says, by what it was asked; of what the host lacks, or more.
    :param store: the host's directory of models.
    :returns: by the inventory's name: ``name``, ``asked`` (of the source), ``commit``,
        ``directory``, ``missing`` (whether anything has to be fetched), ``bytes`` (of all its
        files), ``fetch_bytes`` (of what is still to come). A model of which neither host nor source
        knows the commit is left out.
    """
    decided = {}
    for model, question in wanted.items():
        name = split_model(question)[0]
        copy = found.get(question) or {}
        ask = copy.get("ask") or question
        listing = listings.get(ask) or {}
        commit = copy.get("commit") or listing.get("commit")
        if not commit:
            continue
        sizes = {file["path"]: int(file["size"]) for file in listing.get("files", [])}
        lacking = [sizes[path] for path in copy.get("damaged") or sizes if path in sizes]
        missing = not copy.get("complete")
        decided[model] = {
            "name": name,
            "asked": ask,
            "commit": commit,
            "directory": directory_of(store, name, commit),
            "missing": missing,
            "bytes": sum(sizes.values()) or int(copy.get("bytes") or 0),
            "fetch_bytes": max(0, sum(lacking) - int(copy.get("partial_bytes") or 0))
            if missing
            else 0,
        }
    return decided


def _missing_copies(decided: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Two names may mean one copy."""
    copies = {entry["directory"]: entry for entry in decided.values() if entry["missing"]}
    return list(copies.values())


def disk_needs(decided: Mapping[str, Mapping[str, Any]], store: str) -> list[dict[str, Any]]:
    """Room that the models still need, for the check of the disks."""
    return [
        {
            "path": store,
            "need_gib": round(entry["fetch_bytes"] * _MARGIN / _GIB, 1),
            "what": entry["name"],
            "adds": True,
        }
        for entry in _missing_copies(decided)
        if entry["fetch_bytes"]
    ]


def expected(decided: Mapping[str, Mapping[str, Any]], store: str, free: int) -> list[str]:
    """What is still to come, a line for every copy.

    :param decided: of :func:`decide`.
    :param store: the host's directory of models.
    :param free: bytes that are free there.
    """
    return [
        f"{entry['name']} at {entry['commit'][:12]}: {entry['fetch_bytes'] / _GIB:.2f} of"
        f" {entry['bytes'] / _GIB:.2f} GiB are still to come; {free / _GIB:.1f} GiB are free in"
        f" {store}"
        for entry in _missing_copies(decided)
    ]
