# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Filter face of plugin_utils/_host_plan.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ansible_collections.baremetal.vllm.plugins.plugin_utils._host_plan import plan_host
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

DOCUMENTATION = r"""
name: vllm_host_plan
short_description: Work out what a GPU host shall look like
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Turns C(vllm_instances) and the state of a host into the releases to install and the list of
    instances that do not run theirs.
positional: settings, state, pulled_digest, plans
options:
  _input:
    description: The entries of C(vllm_instances).
    type: list
    elements: dict
    required: true
  settings:
    description:
      - What the instances share, as P(baremetal.vllm.vllm_release#filter) lists it.
    type: dict
    required: true
  state:
    description: The key RV(baremetal.vllm.host_state#module:host_state) of that module's result.
    type: dict
    required: true
  pulled_digest:
    description: The image by digest, where it was pulled in this run.
    type: str
  plans:
    description:
      - Plans by instance, as RV(baremetal.vllm.validate_host#module:plans) of that module has them.
    type: dict
"""

EXAMPLES = r"""
- name: Work out the releases of this host
  ansible.builtin.set_fact:
    plan: "{{ vllm_instances | baremetal.vllm.vllm_host_plan(settings, host.host_state) }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    releases:
      description:
        - The release of every wanted instance, and of each of its replicas. C(proved) says whether
          the process that runs has generated a token. C(gives_way) lists units to stop before.
      type: list
      elements: dict
    pending:
      description: Those of them that do not run.
      type: list
      elements: dict
    serving:
      description: Whether a pending instance serves an older release now.
      type: bool
    remove:
      description:
        - Instances on the host whose state is absent, and replicas that no plan has any more. Keys
          are C(name) and C(replica_of).
      type: list
      elements: dict
    endpoints:
      description:
        - Name, served name, names of LoRA adapters, address and port of every wanted engine.
      type: list
      elements: dict
    directories:
      description: Directories for the module file_set.
      type: list
      elements: dict
    files:
      description: Files for the module file_set.
      type: list
      elements: dict
"""


def vllm_host_plan(
    instances: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    state: Mapping[str, Any],
    pulled_digest: str | None = None,
    plans: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The plan of a host; see DOCUMENTATION."""
    try:
        return plan_host(
            plain(instances), plain(settings), plain(state), pulled_digest, plain(plans)
        )
    except ValueError as error:
        raise AnsibleFilterError(f"vllm_host_plan: {error}") from error


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"vllm_host_plan": vllm_host_plan}
