# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/validate_inventory.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_inventory
short_description: Check a host's variables before anything is touched
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Checks every variable of this collection's roles that the inventory gives a host, on the
    controller, without a connection and without facts. It fails with one sentence for each problem,
    all of them at once, and repeats no secret.
  - Unknown variables and keys are told with the nearest known name. Names that begin with a role's
    name and an underscore belong to that role.
  - Options of instances are held against the flags of the vLLM release in C(vllm_release).
  - An edge is also checked against the engines of the hosts behind it.
options:
  roles:
    description: Roles whose variables are checked. All roles of the collection by default.
    type: list
    elements: str
  bundle:
    description:
      - Whether the bundle that C(bundle_directory) names is used, so that it must have what the
        host wants, or is to be written.
    type: str
    choices: [used, written]
    default: used
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: full
  diff_mode:
    description: Returns what has changed.
    support: none
    details: It changes nothing.
  idempotent:
    description: Running it again changes nothing.
    support: full
notes:
  - Variables that refer to C(ansible_facts) are left to the host's own check.
seealso:
  - module: baremetal.vllm.validate_host
"""

EXAMPLES = r"""
- name: Check the whole inventory before connecting to any host
  hosts: gpu_hosts:edge_hosts
  gather_facts: false
  tasks:
    - name: Check every variable of this host
      baremetal.vllm.validate_inventory:
"""

RETURN = r"""
needs:
  description:
    - What M(baremetal.vllm.validate_host) judges driver, Docker Engine, container toolkit and
      tuning of this host by, as options of M(baremetal.vllm.host_state).
  returned: success
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
needs_facts:
  description: Variables that refer to C(ansible_facts), which the host is asked for then.
  returned: success
  type: list
  elements: str
  sample: [vllm_address]
image:
  description: C(vllm_image), by the digest that C(vllm_pins) has for it where there is one.
  returned: success
  type: str
  sample: >-
    docker.io/vllm/vllm-openai:v0.32.0@sha256:9b0bbcb2d2f8a9a1e2cd5f6b2c7d4a5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c
models:
  description:
    - The models of this host's instances that are no directories, as the inventory names them, and
      as they are asked for, with the commit that C(vllm_pins) has.
  returned: success
  type: dict
  sample: {openai/gpt-oss-20b: openai/gpt-oss-20b@6cee5e81ee83917806bbde320786a8fb61efebee}
edge_models:
  description: Names of the models behind the edge of this host; empty where it is no edge.
  returned: success
  type: list
  elements: str
  sample: [gpt-oss-20b, gpt-oss-120b]
source:
  description:
    - C(model_store_provider), C(model_store_endpoint) and C(model_store_exclude), by their last
      word. Empty for a host that has C(bundle_directory).
  returned: success
  type: dict
  sample: {provider: huggingface, endpoint: "https://huggingface.co", exclude: [original/*]}
msg:
  description: How many problems there are, then one line for each.
  returned: failure
  type: str
  sample: |-
    1 problem in the inventory; nothing was changed:

    gpu-1: vllm_instances[0].options.swap-space is no flag of vLLM 0.32.0: it was removed in 0.18.0;
    leave it out.
"""
