# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Gives the module gpu_info the controller's nvidia-ml-py; documented in modules/gpu_info.py."""

from __future__ import annotations

import importlib.util
import typing as t
from pathlib import Path

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.module_utils._nvml_library import pack

MODULE = "baremetal.vllm.gpu_info"


def controller_library() -> str:
    """Return the controller's nvidia-ml-py, packed; empty where it has none."""
    found = importlib.util.find_spec("pynvml")
    # A directory of that name is an old package of another maker.
    if found is None or not found.origin or Path(found.origin).name != "pynvml.py":
        return ""
    return pack(Path(found.origin).read_bytes())


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Sends nvidia-ml-py along with the module: nothing is left on the host."""

    _supports_check_mode = True
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            {"library": {"type": "str", "no_log": True, "default": ""}}
        )
        library = arguments["library"] or controller_library()
        answer = self._execute_module(
            module_name=MODULE, module_args={"library": library}, task_vars=task_vars
        )
        return {**result, **answer}
