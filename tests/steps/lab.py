# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Images, registry and model of the lab, which the scenarios run on."""

from __future__ import annotations

import sys
from pathlib import Path

from steps.report import Command, Report
from steps.surroundings import ROOT, environment

sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from lab_steps import PREPARATION

_HOSTS = 3
"""Steps that bring the machine and the hosts' images."""


def run(report: Report) -> None:
    """The engine's image mostly waits for packages: it is built beside the steps that follow."""
    env = environment(HOME=str(Path.home()))
    for title, command in PREPARATION[:_HOSTS]:
        report.command(title, *command, env=env)
    report.meanwhile(
        [Command(title, command, ROOT, env) for title, command in PREPARATION[_HOSTS:]]
    )
