# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The distribution's nginx on loopback with the role's own configuration, before fake engines."""

from __future__ import annotations

import sys

from steps.packages import installed
from steps.report import Report
from steps.surroundings import COLLECTIONS, ROOT, environment

NGINX = ("nginx", "libnginx-mod-http-js", "openssl")
LIMIT = 180
"""Seconds; a person waits for it. On two cores it takes 40 to 60."""


def run(report: Report) -> None:
    if installed(report, *NGINX):
        _pytest(report, "nginx on loopback", "not scan", LIMIT)


def run_scan(report: Report) -> None:
    """What only finds something new when TLS or a scanner has changed."""
    if installed(report, *NGINX, "testssl.sh"):
        _pytest(report, "scan of TLS", "scan", None)


def _pytest(report: Report, step: str, which: str, limit: float | None) -> None:
    # A session of its own: nothing may disturb the times that are measured.
    report.settle()
    report.command(
        step,
        *(sys.executable, "-m", "pytest", "--quiet", "-m", which, "tests/edge"),
        env=environment(PYTHONPATH=str(COLLECTIONS)),
        cwd=ROOT,
        limit=limit,
    )
