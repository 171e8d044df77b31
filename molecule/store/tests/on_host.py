# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The one host of this scenario: commands and modules on it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from conftest import ENVIRONMENT, ROOT, SCENARIO, lab_host

HOST = "gpu2"


def run(command: str) -> str:
    """What a command prints on the host; it has to succeed."""
    return str(lab_host(HOST).check_output(command))


def module(name: str, **arguments: Any) -> dict[str, Any]:
    """Result of a module on the host, as a task would have it."""
    command = ["ansible", HOST, *SCENARIO.inventory_arguments, "-m", f"baremetal.vllm.{name}"]
    form = {"ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(
        [*command, "-a", json.dumps(arguments)],
        cwd=ROOT,
        env=ENVIRONMENT | form,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = re.search(r"=> (\{.*\})", done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(found[1])
    return result
