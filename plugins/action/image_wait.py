# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waits for an image that is pulled in the background; documented in modules/image_wait.py."""

from __future__ import annotations

import re
import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.plugin_utils._progress_display import (
    ProgressDisplay,
    pauses,
)

READER = "baremetal.vllm.image_wait"
# What the job's wrapper and the module add for themselves.
_INTERNAL = ("ansible_job_id", "invocation", "started", "finished", "results_file", "child_pid")
_GIB = 2**30


def short_image(image: str) -> str:
    """Return an image's last name, with its digest cut to eight digits."""
    name = image.rpartition("/")[2]
    return re.sub(r"(@sha256:[0-9a-f]{8})[0-9a-f]+\Z", r"\1…", name)


def pull_text(image: str, status: t.Mapping[str, t.Any]) -> str:
    """Return what a status of the progress file says, without the host.

    While a layer has not begun, the engine has not told its size: the total is then `at least`.
    """
    if not status["layers"]:
        return f"{status['phase']} {short_image(image)}, {status['elapsed']:.0f} s"
    current, total = status["current_bytes"] / _GIB, status["total_bytes"] / _GIB
    least = "" if status.get("total_is_final", True) else "at least "
    return (
        f"{status['phase']} {short_image(image)} {current:.2f} of {least}{total:.2f} GiB, "
        f"{status['layers_done']} of {status['layers']} layers, {status['elapsed']:.0f} s"
    )


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Looks at the job and its progress in one remote call each time, until it has ended."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "job": {"type": "str", "required": True},
                "progress_file": {"type": "str", "required": True},
                "image": {"type": "str", "required": True},
                "timeout": {"type": "int", "default": 3600},
                "async_dir": {"type": "str"},
            }
        )
        if not arguments["job"]:
            result.update(skipped=True, msg="No pull was started, so there is none to wait for.")
            return result
        if not arguments["async_dir"]:
            default = "~/.ansible_async"
            arguments["async_dir"] = self.get_shell_option("async_dir", default=default)
        display = ProgressDisplay(Display().display, task_vars.get("inventory_hostname", "host"))
        try:
            result.update(self._wait(arguments, task_vars, display))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _wait(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any], display: ProgressDisplay
    ) -> dict[str, t.Any]:
        image, timeout = arguments["image"], arguments["timeout"]
        start = time.monotonic()
        text = f"pulling {short_image(image)}"
        for pause in pauses():
            look = self._execute_module(
                module_name=READER, module_args=arguments, task_vars=task_vars
            )
            if look.get("failed"):
                return {"failed": True, "msg": look.get("msg", "The pull cannot be looked at.")}
            now = time.monotonic()
            status = look.get("status") or {}
            if status and status["phase"] != "failed":  # the job's own sentence says why
                text = pull_text(image, status)
                numbers = (round(status["current_bytes"] / _GIB, 2), status["layers_done"])
                display.update(now, status["phase"], numbers, text)
            if look["finished"]:
                return self._ended(image, look["job_result"])
            if now - start >= timeout:
                return {
                    "failed": True,
                    "msg": f"Image {image} was not there after {timeout} seconds ({text}); the "
                    "pull goes on in the background until its own limit, so raise timeout or "
                    "run again later.",
                }
            time.sleep(min(pause, max(0.0, start + timeout - now)))
        raise AssertionError("pauses() never ends")

    @staticmethod
    def _ended(image: str, job_result: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the job's result as that of this task."""
        ended = {key: value for key, value in job_result.items() if key not in _INTERNAL}
        if ended.get("failed") and ended.get("msg") == "Timeout exceeded":
            ended["msg"] = (
                f"The pull of image {image} was stopped by the limit of its task (async); raise "
                "it, or look at the network between the host and the registry."
            )
        return ended
