# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waits for a job in the background that writes a progress file, with a line for each step."""

from __future__ import annotations

import abc
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.plugin_utils._progress_display import (
    ProgressDisplay,
    pauses,
)

# What the job's wrapper and the module add for themselves.
_INTERNAL = ("ansible_job_id", "invocation", "started", "finished", "results_file", "child_pid")

Status = t.Mapping[str, t.Any]


class JobWait(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Looks at the job and its progress in one remote call each time, until it has ended.

    A subclass names the module that looks, the option that says what is waited for, and the words.
    """

    _supports_check_mode = True
    _supports_async = False

    reader: str
    subject: str
    nothing: str
    """What is said where no job was started."""

    @abc.abstractmethod
    def clock(self) -> t.Any:
        """Return what has C(monotonic) and C(sleep)."""

    @abc.abstractmethod
    def show(self, line: str) -> None:
        """Show the operator a line."""

    @abc.abstractmethod
    def begun(self, subject: str) -> str:
        """Return what is said of a job before it has told anything."""

    @abc.abstractmethod
    def describe(self, subject: str, status: Status) -> tuple[t.Any, str]:
        """Return the numbers of a status, and what it says, without the host."""

    @abc.abstractmethod
    def too_late(self, subject: str, timeout: int, text: str) -> str:
        """Return the sentence for a wait that is over before the job is."""

    @abc.abstractmethod
    def stopped(self, subject: str) -> str:
        """Return the sentence for a job that Ansible has stopped."""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "job": {"type": "str", "required": True},
                "progress_file": {"type": "str", "required": True},
                self.subject: {"type": "str", "required": True},
                "timeout": {"type": "int", "default": 3600},
                "async_dir": {"type": "str"},
            }
        )
        if not arguments["job"]:
            result.update(skipped=True, msg=self.nothing)
            return result
        if not arguments["async_dir"]:
            default = "~/.ansible_async"
            arguments["async_dir"] = self.get_shell_option("async_dir", default=default)
        display = ProgressDisplay(self.show, task_vars.get("inventory_hostname", "host"))
        try:
            result.update(self._wait(arguments, task_vars, display))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _wait(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], display: ProgressDisplay
    ) -> dict[str, t.Any]:
        subject, timeout, clock = arguments[self.subject], arguments["timeout"], self.clock()
        start = clock.monotonic()
        text = self.begun(subject)
        for pause in pauses():
            look = self._execute_module(
                module_name=self.reader, module_args=arguments, task_vars=task_vars
            )
            if look.get("failed"):
                return {"failed": True, "msg": look.get("msg", "The job cannot be looked at.")}
            now = clock.monotonic()
            status = look.get("status") or {}
            if status and status["phase"] != "failed":  # the job's own sentence says why
                numbers, text = self.describe(subject, status)
                display.update(now, status["phase"], numbers, text)
            if look["finished"]:
                return self._ended(subject, look["job_result"])
            if now - start >= timeout:
                return {"failed": True, "msg": self.too_late(subject, timeout, text)}
            clock.sleep(min(pause, max(0.0, start + timeout - now)))
        raise AssertionError("pauses() never ends")

    def _ended(self, subject: str, job_result: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the job's result as that of this task."""
        ended = {key: value for key, value in job_result.items() if key not in _INTERNAL}
        if ended.get("failed") and ended.get("msg") == "Timeout exceeded":
            ended["msg"] = self.stopped(subject)
        return ended
