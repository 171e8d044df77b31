# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Variables of a host that are right, and what is said when some are changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.parsing.dataloader import DataLoader

from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory import check
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import RoleInterfaces

_INTERFACES = RoleInterfaces(DataLoader())
SPECS = _INTERFACES.specs
KEY = "0123456789abcdef" * 2
ONE = {"name": "gpt-oss-20b", "model": "openai/gpt-oss-20b"}
_DIGEST = "sha256:" + "a1" * 32

BASE: dict[str, Any] = {
    name: value for name, value in _INTERFACES.defaults.items() if name.startswith("edge_")
} | {
    "vllm_release": "0.32.0",
    "vllm_image": f"registry.example:5000/vllm@{_DIGEST}",
    "vllm_instances": [ONE],
    "vllm_api_key": "",
    "model_store_token": "",
    "vllm_http_keep_alive": 120,
}
ALONE = {"gpu_hosts": ["gpu-1"]}
FLEET = {"gpu_hosts": ["gpu-1", "gpu-2"], "edge_hosts": ["edge-1"]}


def problems(
    changes: dict[str, Any],
    host: str = "gpu-1",
    groups: Mapping[str, list[str]] | None = None,
    others: dict[str, dict[str, Any]] | None = None,
) -> list[str]:
    """What is said of a host with these variables changed.

    :param others: host -> changes, of the hosts that it may look at.
    """
    hostvars = {name: BASE | changed for name, changed in (others or {}).items()}
    return check(host, BASE | changes, groups or ALONE, hostvars, SPECS)


def instance(**changes: Any) -> dict[str, Any]:
    return {"vllm_instances": [ONE | changes]}
