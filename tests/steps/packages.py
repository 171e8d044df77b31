# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Packages of the distribution that a part needs on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from steps.report import Report

_POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked by packages before they start a service; 101 forbids it."""

_APT = ("apt-get", "--quiet", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300")


def installed(report: Report, *names: str) -> bool:
    """Whether all are there, brought now where they were not; no service is started by it."""
    missing = [name for name in names if not _is_there(name)]
    if not missing:
        return True
    return report.check(f"install {', '.join(missing)}", lambda: _install(missing))


def _is_there(name: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", name]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return False
    return done.stdout == "installed"


def _install(names: list[str]) -> Iterable[str]:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        yield f"Debian or Ubuntu and root are needed; there: apt-get install {' '.join(names)}."
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_started():
        for command in ((*_APT, "update"), (*_APT, "install", *names)):
            done = subprocess.run(
                command,
                check=False,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                yield f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}"
                return
    if "nginx" in names and shutil.which("systemctl"):
        # Nor at the next boot: the machine is a developer's.
        subprocess.run(["systemctl", "--quiet", "disable", "nginx"], check=False)


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    """Containers have such a policy of their own, which is back afterwards."""
    before = _POLICY.read_bytes() if _POLICY.exists() else None
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before is None:
            _POLICY.unlink()
        else:
            _POLICY.write_bytes(before)
