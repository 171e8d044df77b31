# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_driver_progress.py: what apt is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_progress import (
    choose_packages,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: nvidia_driver_packages
short_description: Choose the exact versions of the NVIDIA driver's packages
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Looks up every package of the plan in what C(apt-cache madison) printed. Versions of the plan's
    own repository come before those of other archives, which use the same names.
positional: table, refusal
options:
  _input:
    description: The plan, as the role C(preflight) has it.
    type: dict
    required: true
  table:
    description: Output of C(apt-cache madison) for all of the plan's packages.
    type: str
    required: true
  refusal:
    description: What C(apt-get update) complained of, to be quoted where a package is missing.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what apt would be told
  ansible.builtin.debug:
    msg: "{{ (plan | baremetal.vllm.nvidia_driver_packages(madison.stdout)).install }}"
"""

RETURN = r"""
_value:
  description: The choice.
  type: dict
  contains:
    install:
      description: Package and exact version, joined by an equals sign.
      type: list
      elements: str
    problems:
      description: A sentence for every package that cannot be had.
      type: list
      elements: str
"""


def nvidia_driver_packages(
    planned: Mapping[str, Any], table: str, refusal: str = ""
) -> dict[str, list[str]]:
    """What apt is told; see DOCUMENTATION."""
    return choose_packages(plain(planned), str(table), str(refusal))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nvidia_driver_packages": nvidia_driver_packages}
