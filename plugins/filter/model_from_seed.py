# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_model_spread.py: a listing of a model that a seed serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._model_spread import from_seed
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: model_from_seed
short_description: Have the files of a model come from a host of the fleet
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Replaces the addresses in a listing by those of a host that serves the model with
    M(baremetal.vllm.model_seed).
  - Sizes and hashes stay those of the source, so the host need not be trusted.
positional: address, key
options:
  _input:
    description: One of RV(baremetal.vllm.model_source#module:listings) of that module.
    type: dict
    required: true
  address:
    description: The server, as C(http://host:port).
    type: str
    required: true
  key:
    description: The server's O(baremetal.vllm.model_seed#module:key). The addresses hold it.
    type: str
    required: true
seealso:
  - module: baremetal.vllm.model_seed
"""

EXAMPLES = r"""
- name: Fetch the model from another host
  baremetal.vllm.model_fetch:
    store: /var/lib/vllm/models
    listing: >-
      {{ source.listings[0] | baremetal.vllm.model_from_seed('http://192.0.2.11:8790', key) }}
    image: docker.io/vllm/vllm-openai@sha256:{{ digest }}
  no_log: true
"""

RETURN = r"""
_value:
  description: The listing, with other values of C(url).
  type: dict
"""


def model_from_seed(listing: Mapping[str, Any], address: str, key: str) -> dict[str, Any]:
    """The listing; see DOCUMENTATION."""
    return from_seed(plain(listing), str(address), str(key))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"model_from_seed": model_from_seed}
