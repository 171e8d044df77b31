# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/validate_host.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_host
short_description: Check that a host can do what the inventory asks
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Holds what the inventory asks against facts and against what
    M(baremetal.vllm.host_state) has read, on the controller. It fails with one sentence for each
    problem, all of them at once.
  - Checked are the distribution, systemd, GPUs on the PCI bus, model directories, ports and free
    disk space.
options:
  host_state:
    description: C(host_state) as M(baremetal.vllm.host_state) returns it.
    type: dict
    required: true
  instances:
    description: Entries of C(vllm_instances) that this host runs; absent ones are passed over.
    type: list
    elements: dict
    default: []
  ports:
    description: Further ports that will be listened on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: TCP port.
        type: int
        required: true
      what:
        description: What wants it, as a sentence names it; for example C(edge_port).
        type: str
        required: true
  own_ports:
    description: Ports on which services of this collection listen already.
    type: list
    elements: int
    default: []
  disk_needs:
    description: Free space that is needed.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A key of C(disks) in O(host_state).
        type: path
        required: true
      need_gib:
        description: Free space in GiB.
        type: float
        required: true
      what:
        description: What needs it, as a sentence names it.
        type: str
        required: true
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
  - Needs the facts C(distribution), C(distribution_version) and C(service_mgr).
seealso:
  - module: baremetal.vllm.validate_inventory
"""

EXAMPLES = r"""
- name: Check this host
  baremetal.vllm.validate_host:
    host_state: "{{ __preflight_host_state.host_state }}"
    instances: "{{ vllm_instances }}"
    ports:
      - port: "{{ edge_port }}"
        what: edge_port
    disk_needs:
      - path: /var/lib/docker
        need_gib: 40
        what: the image
"""

RETURN = r"""
msg:
  description: How many problems there are, then one line for each.
  returned: failure
  type: str
  sample: |-
    1 problem in the host; nothing was changed:

    gpu-1: vllm_instances (gpt-oss-20b) wants port 8000, on which nginx listens (0.0.0.0); stop it
    or choose another port.
"""
