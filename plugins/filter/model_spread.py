# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_model_spread.py: who gets models from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._model_spread import spread
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: model_spread
short_description: Settle which host gets its models from which
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Shares the models that hosts lack among the hosts that serve them, the seeds, so that each of
    these sends about as many bytes as the others.
  - A seed gets what it lacks from the source. So does every host a model that no seed has.
positional: seeds
options:
  _input:
    description:
      - The hosts of the run and, for each, RV(baremetal.vllm.validate_host#module:models) of that
        module.
    type: dict
    required: true
  seeds:
    description: Hosts that serve others. Those that take no part in the run are passed over.
    type: list
    elements: str
    required: true
seealso:
  - plugin: baremetal.vllm.model_from_seed
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Settle which seed serves which host
  ansible.builtin.set_fact:
    spread: "{{ fleet | baremetal.vllm.model_spread(groups['model_seeds']) }}"
"""

RETURN = r"""
_value:
  description: Who serves whom.
  type: dict
  contains:
    seeds:
      description: Seeds that have something to serve.
      type: list
      elements: str
    hosts:
      description: Host -> what was asked of the source -> seed, for models that come from a seed.
      type: dict
    longest:
      description: The most models that one host gets from seeds.
      type: int
"""


def model_spread(fleet: Mapping[str, Any], seeds: Sequence[str]) -> dict[str, Any]:
    """Who serves whom; see DOCUMENTATION."""
    return spread(plain(fleet), plain(seeds))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"model_spread": model_spread}
