# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_provision.py."""

from __future__ import annotations

from typing import Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._provision import needs

DOCUMENTATION = r"""
name: provision_needs
short_description: List what the roles below vLLM must know of a host
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Names the packages, units, files and paths that M(baremetal.vllm.validate_host) judges
    driver, Docker Engine, container toolkit and tuning by, as options of
    M(baremetal.vllm.host_state).
positional: wants_gpus
options:
  _input:
    description: Whether engines may run on the host; an edge alone needs no ground for them.
    type: bool
    required: true
  wants_gpus:
    description: Whether an instance of the host uses GPUs.
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Read what the checks need
  baremetal.vllm.host_state:
    packages: "{{ (true | baremetal.vllm.provision_needs(true)).packages }}"
"""

RETURN = r"""
_value:
  description: Lists by option.
  type: dict
  contains:
    packages:
      description: Names and globs of packages.
      type: list
      elements: str
    services:
      description: Names of units.
      type: list
      elements: str
    read:
      description: Small files.
      type: list
      elements: path
    paths:
      description: Paths.
      type: list
      elements: path
"""


def provision_needs(is_gpu_host: bool, wants_gpus: bool) -> dict[str, list[str]]:
    """What to ask the host for; see DOCUMENTATION."""
    return needs(is_gpu_host, wants_gpus)


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., dict[str, list[str]]]]:
        return {"provision_needs": provision_needs}
