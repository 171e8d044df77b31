# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_driver_progress.py: how far a host has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.baremetal.vllm.plugins.plugin_utils._driver_progress import progress
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: nvidia_driver_progress
short_description: Judge how far a host has come to its NVIDIA driver
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Says what remains to be done, and what is wrong, after packages were installed, the module was
    loaded or the host was rebooted. Changes nothing.
positional: state, rebooted
options:
  _input:
    description: The plan, as the role C(preflight) has it.
    type: dict
    required: true
  state:
    description: The key RV(baremetal.vllm.host_state#module:host_state) of that module's result.
    type: dict
    required: true
  rebooted:
    description: Whether this run has rebooted the host. It does so once.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Prove that module, library and wanted release are one
  ansible.builtin.assert:
    that: (plan | baremetal.vllm.nvidia_driver_progress(host.host_state)).problem is none
"""

RETURN = r"""
_value:
  description: What remains.
  type: dict
  contains:
    hold:
      description: Packages to hold.
      type: list
      elements: str
    build:
      description: Kernels for which DKMS should build the module.
      type: list
      elements: str
    load:
      description: Whether to try to load the module.
      type: bool
    start:
      description: Units to enable, and to start once the module is loaded.
      type: list
      elements: str
    users:
      description: Sentence about programs that hold the GPUs, or null.
      type: str
    reboot:
      description: Sentence why the host must be rebooted, or null.
      type: str
    unbootable:
      description: Sentence why a reboot would leave the host without driver, or null.
      type: str
    problem:
      description: Sentence about what is still wrong, or null.
      type: str
"""


def nvidia_driver_progress(
    planned: Mapping[str, Any], state: Mapping[str, Any], rebooted: bool = False
) -> dict[str, Any]:
    """How far a host has come; see DOCUMENTATION."""
    return progress(plain(planned), plain(state), bool(rebooted))


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nvidia_driver_progress": nvidia_driver_progress}
