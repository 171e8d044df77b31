# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Images, registry and model of the lab, which the scenarios run on."""

from __future__ import annotations

import sys
from pathlib import Path

from steps.report import Report
from steps.surroundings import ROOT, environment

sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from lab_steps import PREPARATION


def run(report: Report) -> None:
    env = environment(HOME=str(Path.home()))
    for title, command in PREPARATION:
        report.command(title, *command, env=env)
