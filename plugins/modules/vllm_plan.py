# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/vllm_plan.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_plan
short_description: Show what vLLM is told on given GPUs, and why
version_added: 0.2.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Prints, for each instance, a table of flags with their reasons, where the memory of a GPU goes,
    and how many tokens the KV cache will hold.
  - It runs on the controller and touches no host. C(playbooks/plan.yml) is made of it.
  - Without parameters it plans what the extra variables (C(-e)) of the run ask for, which are
    C(gpu_set), C(gpu_count), C(model), C(intent), C(vllm_release), C(max_model_len), C(options),
    C(env) and C(plan_json). Misspelt ones are refused with the nearest name. It is skipped where
    C(gpu_set) is not among them.
  - With O(instances) it plans those, or the instance that the extra variables describe, for the
    GPUs of the host. It fails only in the step with O(collect), when every host has been told.
options:
  instances:
    description: Entries of C(vllm_instances).
    type: list
    elements: dict
  host_state:
    description: C(host_state) as M(baremetal.vllm.host_state) returns it.
    type: dict
  gpu_info:
    description: The fact of that name, from M(baremetal.vllm.gpu_info).
    type: dict
  release:
    description: vLLM release that is planned for. The default is that of the role C(vllm).
    type: str
  shutdown_timeout:
    description: Seconds that running requests get when an engine is stopped.
    type: int
    default: 60
  collect:
    description:
      - Results of this module by host. All of them are written to C(plan_json), and the task fails
        if anything was refused.
    type: dict
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: full
    details: The file C(plan_json), which was asked for as output, is written in check mode too.
  diff_mode:
    description: Returns what has changed.
    support: none
  idempotent:
    description: Running it again changes nothing.
    support: full
seealso:
  - module: baremetal.vllm.gpu_info
  - module: baremetal.vllm.validate_host
"""

EXAMPLES = r"""
# ansible-playbook playbooks/plan.yml -e gpu_set=h200 -e gpu_count=1 -e model=openai/gpt-oss-20b
- name: Plan for GPUs of the catalogue
  baremetal.vllm.vllm_plan:

- name: Plan the instances of this host
  baremetal.vllm.vllm_plan:
    instances: "{{ vllm_instances }}"
    host_state: "{{ host.host_state }}"
    gpu_info: "{{ ansible_facts['gpu_info'] }}"
    release: "{{ vllm_release }}"
"""

RETURN = r"""
plan:
  description:
    - The plan for GPUs of the catalogue, as it is written to C(plan_json), with the keys C(refused)
      (a sentence or null), C(flags), C(env), C(tensor_parallel_size), C(replicas), C(memory_gib)
      (C(total), C(weights), C(activation), C(cuda_graphs), C(other), C(kv) of a first start and
      C(kv_restart) of one that finds torch.compile's cache; of one GPU, in GiB), C(kv_tokens),
      C(max_concurrency) and C(reasons).
    - Values of C(env) are not shown, since any of them may be a secret.
    - Of a refusal the file holds C(refused), and C(memory_gib) where the planner got as far; all
      else is null or empty.
  returned: success, with C(gpu_set)
  type: dict
plans:
  description: The same by instance.
  returned: success, with O(instances)
  type: dict
refused:
  description: Sentences of what cannot be planned.
  returned: success, with O(instances)
  type: list
  elements: str
"""
