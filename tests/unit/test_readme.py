# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The plan that the README shows is the one that its command prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ansible_collections.baremetal.vllm.tests.unit.playbooks import COLLECTION, ansible_playbook


def test_plan_of_the_readme(tmp_path: Path) -> None:
    """Each line in its place; a line of three dots stands for some that are left out."""
    text = (COLLECTION / "README.md").read_text()
    section = text.split("## Plan before you buy")[1].split("\n## ")[0]
    command, shown = re.findall(r"```\w*\n(.*?)```", section, re.S)[:2]
    program, playbook, *arguments = shlex.split(command)
    assert program == "ansible-playbook"
    done = ansible_playbook(tmp_path, str(COLLECTION / playbook), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = iter(done.stdout.splitlines())
    lines = shown.splitlines()
    assert len(lines) > 20
    for line in lines:
        assert line.strip() == "..." or line in printed, f"not printed, or not here: {line}"
