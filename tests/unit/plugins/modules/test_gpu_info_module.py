# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What the module does with its option; what it reads is in module_utils/test_nvml_facts.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _nvml, _nvml_gpu, _nvml_library
from ansible_collections.baremetal.vllm.plugins.modules import gpu_info

# Plays nvidia-ml-py on a host whose driver does not run, and is long enough to be noticed.
LIBRARY = _nvml_library.pack(
    b"NVML_ERROR_LIB_RM_VERSION_MISMATCH, NVML_ERROR_LIBRARY_NOT_FOUND = 18, 12\n"
    b"NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_NO_PERMISSION = 9, 4\n"
    b"class NVMLError(Exception):\n    value = 17\n"
    b"def nvmlInit():\n    raise NVMLError('blocked')\n"
)


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> tuple[dict[str, Any], str]:
    """What the module returns, and the text of it."""
    with patch_module_args(arguments), pytest.raises(SystemExit) as ended:
        gpu_info.main()
    assert not ended.value.code
    text = capsys.readouterr().out
    return json.loads(text), text


@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_wrong_is_a_fact_and_no_failure(
    capsys: pytest.CaptureFixture[str], check_mode: bool
) -> None:
    result, _text = run(capsys, library=LIBRARY, _ansible_check_mode=check_mode)
    assert result["changed"] is False
    facts = result["ansible_facts"]["gpu_info"]
    assert facts["state"] == "error"
    assert facts["message"] == (
        "NVML did not start (blocked, error 17): run nvidia-smi on the host and look for NVRM in"
        " `journalctl -k`."
    )


def test_the_library_is_in_no_output_and_no_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []

    def log(_module: AnsibleModule, message: str, **more: Any) -> None:
        logged.append(f"{message} {more}")

    monkeypatch.setattr(AnsibleModule, "log", log)
    _result, text = run(capsys, library=LIBRARY)
    assert logged
    assert LIBRARY not in text + "".join(logged)


def test_the_options_are_documented() -> None:
    documented = yaml.safe_load(gpu_info.DOCUMENTATION)["options"]
    assert set(documented) == {"library"}
    assert "library" not in gpu_info.EXAMPLES


def returned() -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load(gpu_info.RETURN)["ansible_facts"]
    documented: dict[str, Any] = facts["contains"]["gpu_info"]["contains"]
    return documented


def test_every_fact_is_documented(tmp_path: Path) -> None:
    assert set(returned()) == set(_nvml.read(LIBRARY, str(tmp_path)))
    documented = returned()["gpus"]["contains"]
    assert set(documented) == set(_nvml_gpu.lost_gpu_facts(0, None, ""))
