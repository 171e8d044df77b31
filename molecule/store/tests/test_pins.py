# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""pin.yml asks the real registry and the hub, and writes what they say beside the inventory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ENVIRONMENT, ROOT

HUB = json.loads((ROOT / ".cache/lab/hub.json").read_text())
IMAGE = json.loads((ROOT / ".cache/engine-image/image-digest.json").read_text())["reference"]
MODEL = "openai-lab/gpt-oss-tiny"
TAGGED = "127.0.0.1:5055/vllm/vllm-openai-cpu:0.32.0"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    instance = {"name": "one", "model": MODEL}
    values = {
        "vllm_image": TAGGED,
        "vllm_instances": [instance],
        "model_store_endpoint": HUB["endpoint"],
    }
    (tmp_path / "hosts.yml").write_text(
        json.dumps({"gpu_hosts": {"hosts": {"gpu-1": {}}, "vars": values}})
    )
    return tmp_path


def pin(inventory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["ansible-playbook", "playbooks/pin.yml", "-i", str(inventory), *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_tags_and_branches_are_pinned_once(inventory: Path) -> None:
    file = inventory / "group_vars/all/pins.yml"
    assert "changed=1" in pin(inventory, "--check")
    assert not file.exists()
    assert "changed=1" in pin(inventory)
    pins = yaml.safe_load(file.read_text())["vllm_pins"]
    digest = IMAGE.partition("@")[2]
    assert pins == {"images": {TAGGED: digest}, "models": {MODEL: HUB["models"][MODEL]}}
    assert "changed=0" in pin(inventory)


def test_what_has_moved_is_shown_and_renewed(inventory: Path) -> None:
    pin(inventory)
    file = inventory / "group_vars/all/pins.yml"
    commit = HUB["models"][MODEL]
    file.write_text(file.read_text().replace(commit, "ab" * 20))
    assert f"model {MODEL}: moved: {'ab' * 20} -> {commit}" in pin(inventory)
    assert commit in file.read_text()
