# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waits for a model that is fetched in the background; documented in modules/model_wait.py."""

from __future__ import annotations

import time
import typing as t

from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.plugin_utils._job_wait import JobWait, Status

_GIB = 2**30
_MIB = 2**20


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def fetch_text(model: str, status: Status) -> str:
    """Return what a status of the progress file says, without the host."""
    current, total = status["current_bytes"], status["total_bytes"]
    if status["phase"] == "verifying":
        counted = f"{status['files_done']} of {status['files']} files"
        return f"{model} verifying {total / _GIB:.2f} GiB, {counted}, {status['elapsed']:.0f} s"
    rate = status.get("bytes_per_second") or 0
    left = f", {duration((total - current) / rate)} left" if rate and total > current else ""
    of_total = f"{model} {current / _GIB:.2f} of {total / _GIB:.2f} GiB"
    return f"{of_total}, {rate / _MIB:.0f} MiB/s{left}"


class ActionModule(JobWait):
    """The words of a download."""

    reader = "baremetal.vllm.model_wait"
    subject = "model"
    nothing = "No download was started, so there is none to wait for."

    def clock(self) -> t.Any:
        return time

    def show(self, line: str) -> None:
        Display().display(line)

    def begun(self, subject: str) -> str:
        return subject

    def describe(self, subject: str, status: Status) -> tuple[t.Any, str]:
        numbers = (round(status["current_bytes"] / _GIB, 2), status["files_done"])
        return numbers, fetch_text(subject, status)

    def too_late(self, subject: str, timeout: int, text: str) -> str:
        return (
            f"Model {subject} was not there after {timeout} seconds ({text}); the download goes on "
            "in the background until its own limit, so raise timeout or run again later."
        )

    def stopped(self, subject: str) -> str:
        return (
            f"The download of {subject} was stopped by the limit of its task (async); raise it, or "
            "look at the network between the host and the source: what has arrived is kept."
        )
