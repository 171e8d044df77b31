# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

import pytest
from ansible.module_utils import _internal
from ansible.module_utils.common import warnings


@pytest.fixture(autouse=True)
def as_on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module has a process of its own on a host; here tests of the controller's code share it."""
    monkeypatch.setattr(_internal, "is_controller", False)
    warnings._global_warnings.clear()
