# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Documentation of an action plugin; see plugins/action/edge_key.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_key
short_description: Make an API key for a client of the edge
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Prints a new key once, with the lines that bring it into the vault of an inventory.
  - The key has 256 random bits, as 64 lower-case hex digits. It is on the screen and nowhere else,
    neither in a file, nor in Ansible's log, nor in the result.
  - It runs on the controller and touches no host. C(playbooks/edge_key.yml) is made of it.
options:
  client:
    description:
      - Name of the client, as C(edge_api_keys) and the access log have it. Letters, digits, dots,
        dashes and underscores, 64 at most.
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
    details: Every run prints another key.
"""

EXAMPLES = r"""
- name: Make a key
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Show a new key once
      baremetal.vllm.edge_key:
        client: team-a
"""

RETURN = r"""
msg:
  description: What is wrong with the name.
  returned: failure
  type: str
  sample: client is missing; name the client, as in -e client=team-a.
"""
