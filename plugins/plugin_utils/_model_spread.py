# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Which host of a fleet gets its models from which, so that the uplink is read once.

Pure: nothing here asks a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

Models = Mapping[str, Mapping[str, Any]]


def spread(fleet: Mapping[str, Models], seeds: Iterable[str]) -> dict[str, Any]:
    """Share what the hosts lack among the seeds that have it, or get it first.

    :param fleet: host -> its models, as :func:`_models.decide` makes them.
    :param seeds: hosts that serve others; those that are not in the fleet do not count.
    :returns: ``seeds``, those that have something to serve; ``hosts``: host -> what was asked of
        the source -> seed, for the models that come from a seed; and ``longest``, the most models
        that one host gets. A model that no seed has, at this commit, is in none of them: it comes
        from the source.
    """
    present = [seed for seed in dict.fromkeys(seeds) if seed in fleet]
    holders: dict[tuple[str, str], list[str]] = {}
    for seed in present:
        for copy in dict.fromkeys(_copy(model) for model in fleet[seed].values()):
            holders.setdefault(copy, []).append(seed)
    load = dict.fromkeys(present, 0)
    hosts = {
        host: chosen
        for host, models in fleet.items()
        if host not in load and (chosen := _choose(models, holders, load))
    }
    serving = {seed for chosen in hosts.values() for seed in chosen.values()}
    return {
        "seeds": [seed for seed in present if seed in serving],
        "hosts": hosts,
        "longest": max((len(chosen) for chosen in hosts.values()), default=0),
    }


def _choose(
    models: Models, holders: Mapping[tuple[str, str], list[str]], load: dict[str, int]
) -> dict[str, str]:
    """What was asked -> seed, for what one host lacks; adds its bytes to the load of the seed."""
    chosen: dict[str, str] = {}
    of_copy: dict[tuple[str, str], str] = {}
    for model in models.values():
        copy = _copy(model)
        if not model["missing"] or copy not in holders:
            continue
        if copy not in of_copy:  # two names in the inventory may mean one copy
            of_copy[copy] = min(holders[copy], key=lambda seed: load[seed])
            load[of_copy[copy]] += int(model["fetch_bytes"])
        chosen[model["asked"]] = of_copy[copy]
    return chosen


def _copy(model: Mapping[str, Any]) -> tuple[str, str]:
    """What a copy is the same by on all hosts, wherever their stores are."""
    return (model["name"], model["commit"])


def from_seed(listing: Mapping[str, Any], address: str, key: str) -> dict[str, Any]:
    """The listing with a seed's addresses for the files; what they are verified by stays.

    :param listing: what the source says of a model.
    :param address: ``http://host:port`` of the seed.
    :param key: what the seed wants to hear. In the query, which messages leave out.
    """
    home = f"{address}/{listing['model'].replace('/', '--')}/{listing['commit']}"
    files = [{**file, "url": f"{home}/{quote(file['path'])}?{key}"} for file in listing["files"]]
    return {**listing, "files": files}
