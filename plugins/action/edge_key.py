# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Prints a new key for a client of the edge; documented in modules/edge_key.py."""

from __future__ import annotations

import secrets
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.plugin_utils._inventory_edge import (
    client_problem,
    client_shown,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import shown

_BYTES = 32
# YAML takes names such as 1001, on and null for something else than text, unless they are quoted.
_TEXT = """
A new key for {client}. It is shown this once and written nowhere.

Put it into the vault of your inventory, to which edge_api_keys refers:

  ansible-vault edit inventories/production/group_vars/all/vault.yml

  vault_edge_api_keys:
    "{client}": "{key}"

Run playbooks/site.yml, which cuts no stream, and hand the key to the client: it sends
`Authorization: Bearer KEY`, which is api_key in OpenAI's libraries.

If {client} has a key already, name both, and requests with either are let through:

    "{client}":
      - "the key above"
      - "the key it has"

Run playbooks/site.yml, let the client change, take the old key out, and run it again.
"""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The key goes to the screen, past Ansible's log and every callback."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec({"client": {"type": "str"}})
        client = arguments["client"] or ""
        problem = _problem(client)
        if problem:
            return result | {"changed": False, "failed": True, "msg": problem}
        text = _TEXT.format(client=client, key=secrets.token_hex(_BYTES))
        Display().display(text, screen_only=True)
        return result | {"changed": False}


def _problem(client: str) -> str:
    if not client:
        return "client is missing; name the client, as in -e client=team-a."
    problem = client_problem(client)
    return f"client is {shown(client_shown(client))}; it {problem}" if problem else ""
