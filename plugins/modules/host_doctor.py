# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/host_doctor.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_doctor
short_description: Tell what is wrong with a host and what mends it
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Reads the host with M(baremetal.vllm.host_state) and M(baremetal.vllm.gpu_info), holds it
    against what the inventory wants of it, and returns every trouble with one command or sentence
    that mends it. It changes nothing.
  - With O(collect) it runs on the controller alone, shows the findings of all hosts as a table,
    writes them as JSON and fails by their severity. C(playbooks/doctor.yml) is made of the two.
  - What it can find is listed in C(docs/doctor.md).
options:
  collect:
    description:
      - Results of this module by host. A host without findings in its result was not reached.
    type: dict
  json_file:
    description: File on the controller to which the findings are written. Empty writes none.
    type: str
    default: ''
  fail_on:
    description: The mildest severity with which the task fails. Notes never fail it.
    type: str
    choices: [error, warning, never]
    default: error
attributes:
  check_mode:
    description: Can run in check mode and report what it would report otherwise.
    support: full
    details: The file O(json_file), which was asked for as output, is written in check mode too.
  diff_mode:
    description: Returns what has changed.
    support: none
  idempotent:
    description: Running it again changes nothing.
    support: full
seealso:
  - module: baremetal.vllm.gpu_info
  - module: baremetal.vllm.host_state
"""

EXAMPLES = r"""
# ansible-playbook playbooks/doctor.yml -e doctor_json=findings.json -e doctor_fail_on=warning
- name: Examine the host
  baremetal.vllm.host_doctor:
  register: examined

- name: Show what was found on all hosts
  baremetal.vllm.host_doctor:
    collect: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all
              | map('extract', hostvars) | map(attribute='examined', default={}))) }}"
  run_once: true
"""

RETURN = r"""
findings:
  description: Troubles, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: Name of the host in the inventory.
      type: str
      sample: gpu1
    severity:
      description:
        - V(error) for what does not work, V(warning) for what may stop working, V(note) for what is
          good to know.
      type: str
      sample: error
    what:
      description: One sentence.
      type: str
      sample: The clock is not synchronised.
    mend:
      description:
        - One command, or one sentence that ends with a full stop. Commands that begin with
          C(ansible) are for the controller, all others for a root shell of the host.
      type: str
      sample: systemctl reboot
    code:
      description: Short name of the trouble, which stays the same from release to release.
      type: str
      sample: driver_mismatch
hosts:
  description: Names of the hosts.
  returned: with O(collect)
  type: list
  elements: str
counts:
  description: Number of findings by severity.
  returned: with O(collect)
  type: dict
  sample: {error: 1, warning: 0, note: 2}
"""
