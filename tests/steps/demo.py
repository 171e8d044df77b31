# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""`make demo` as a newcomer meets it, and once more on what it left: both in their times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from steps.report import Report
from steps.surroundings import ROOT, environment

DEMO = (sys.executable, str(ROOT / "molecule/shared/demo.py"))
LAB = (sys.executable, str(ROOT / "molecule/shared/lab"))

# Seconds that are promised on 2 cores and 24 GB.
COLD = 15 * 60
WARM = 4 * 60


def run(report: Report) -> None:
    report.settle()
    env = environment(HOME=str(Path.home())) | {"VLLM_LAB": "demo"}
    was_up = is_up()
    report.command("make demo", *DEMO, env=env, limit=COLD)
    report.command("make demo again, everything there", *DEMO, env=env, limit=WARM)
    # A demo that a person had started stays up.
    if not was_up:
        report.command("remove the demo's hosts", *LAB, "down", "demo", env=env)


def is_up() -> bool:
    command = ["docker", "ps", "--quiet", "--filter", "label=vllm.lab=demo"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    return bool(listed.stdout.strip())
