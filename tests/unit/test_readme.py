# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The plan that the README shows is the one that its command prints."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _inventory

COLLECTION = Path(_inventory.__file__).parents[2]
PROGRAM = shutil.which("ansible-playbook") or str(
    Path(sys.executable).with_name("ansible-playbook")
)


def test_plan_of_the_readme(tmp_path: Path) -> None:
    """Each line in its place; a line of three dots stands for some that are left out."""
    text = (COLLECTION / "README.md").read_text()
    section = text.split("## Plan before you buy")[1].split("\n## ")[0]
    command, shown = re.findall(r"```\w*\n(.*?)```", section, re.S)[:2]
    program, playbook, *arguments = shlex.split(command)
    assert program == "ansible-playbook"
    done = subprocess.run(
        [PROGRAM, str(COLLECTION / playbook), *arguments],
        cwd=tmp_path,
        env=os.environ
        | {
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTION.parents[2]),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path),
            "ANSIBLE_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    printed = iter(done.stdout.splitlines())
    lines = shown.splitlines()
    assert len(lines) > 20
    for line in lines:
        assert line.strip() == "..." or line in printed, f"not printed, or not here: {line}"
