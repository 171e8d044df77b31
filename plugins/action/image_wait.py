# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Waits for an image that is pulled in the background; documented in modules/image_wait.py."""

from __future__ import annotations

import re
import time
import typing as t

from ansible.utils.display import Display

from ansible_collections.baremetal.vllm.plugins.plugin_utils._job_wait import JobWait, Status

_GIB = 2**30


def short_image(image: str) -> str:
    """Return an image's last name, with its digest cut to eight digits."""
    name = image.rpartition("/")[2]
    return re.sub(r"(@sha256:[0-9a-f]{8})[0-9a-f]+\Z", r"\1…", name)


def pull_text(image: str, status: Status) -> str:
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


class ActionModule(JobWait):
    """The words of a pull."""

    reader = "baremetal.vllm.image_wait"
    subject = "image"
    nothing = "No pull was started, so there is none to wait for."

    def clock(self) -> t.Any:
        return time

    def show(self, line: str) -> None:
        Display().display(line)

    def begun(self, subject: str) -> str:
        return f"pulling {short_image(subject)}"

    def describe(self, subject: str, status: Status) -> tuple[t.Any, str]:
        numbers = (round(status["current_bytes"] / _GIB, 2), status["layers_done"])
        return numbers, pull_text(subject, status)

    def too_late(self, subject: str, timeout: int, text: str) -> str:
        return (
            f"Image {subject} was not there after {timeout} seconds ({text}); the pull goes on in "
            "the background until its own limit, so raise timeout or run again later."
        )

    def stopped(self, subject: str) -> str:
        return (
            f"The pull of image {subject} was stopped by the limit of its task (async); raise it, "
            "or look at the network between the host and the registry."
        )
