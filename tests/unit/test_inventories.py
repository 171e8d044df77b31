# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The inventories are accepted by preflight, with what their comments offer, too."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.tests.unit.playbooks import COLLECTION, ansible_playbook

INVENTORIES = COLLECTION / "inventories"
PLAY = [
    {
        "hosts": "gpu_hosts:edge_hosts",
        "gather_facts": False,
        "tasks": [{"baremetal.vllm.validate_inventory": {}}],
    }
]
KEYS = {"vault_vllm_api_key": "a1" * 32, "vault_edge_api_keys": {"example-client": "b2" * 32}}


def judged(directory: Path, inventory: Path, extra: dict[str, Any]) -> str:
    """Run the check of preflight; what was printed."""
    (directory / "play.json").write_text(json.dumps(PLAY))
    done = ansible_playbook(directory, "play.json", "-i", str(inventory), "-e", json.dumps(extra))
    return done.stdout + done.stderr


def accepted(text: str) -> list[str]:
    return sorted(re.findall(r"^ok: \[(\S+)\]", text, re.M))


def uncommented(directory: Path, file: str) -> Path:
    """A copy of an inventory in which the variables of one file that are comments are none."""
    source = INVENTORIES / file.partition("/")[0]
    copy = directory / source.name
    shutil.copytree(source, copy)
    path = directory / file
    text, count = re.subn(r"^(\s*)# (edge_\w+: )", r"\1\2", path.read_text(), flags=re.M)
    assert count
    path.write_text(text)
    return copy


def test_production(tmp_path: Path) -> None:
    said = judged(tmp_path, INVENTORIES / "production", KEYS)
    assert len(accepted(said)) == 6, said


def test_production_with_its_comments(tmp_path: Path) -> None:
    copy = uncommented(tmp_path, "production/group_vars/edge_hosts.yml")
    said = judged(tmp_path, copy, KEYS)
    assert len(accepted(said)) == 6, said


def test_production_is_refused_with_the_keys_of_the_example(tmp_path: Path) -> None:
    said = judged(tmp_path, INVENTORIES / "production", {})
    assert accepted(said) == []
    assert "vllm_api_key is a placeholder that everyone knows" in said
    assert "edge_api_keys.example-client is a placeholder that everyone knows" in said


def test_homelab(tmp_path: Path) -> None:
    said = judged(tmp_path, INVENTORIES / "homelab", {})
    assert accepted(said) == ["homelab"], said


def test_homelab_for_the_network(tmp_path: Path) -> None:
    copy = uncommented(tmp_path, "homelab/hosts.yml")
    path = copy / "hosts.yml"
    text = path.read_text().replace(
        "edge_listen_address: 127.0.0.1", "edge_listen_address: 0.0.0.0"
    )
    path.write_text(text)
    said = judged(tmp_path, copy, {})
    assert "1 problem in the inventory" in said
    assert "edge_api_keys.me must be a key of 32 to 128 lower-case hex digits" in said
    path.write_text(text.replace("paste the key here", "c3" * 32))
    said = judged(tmp_path, copy, {})
    assert accepted(said) == ["homelab"], said
