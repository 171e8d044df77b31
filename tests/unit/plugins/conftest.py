# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.tests.unit.fake_engine import FakeEngine


@pytest.fixture
def start_engine() -> Iterator[Callable[..., FakeEngine]]:
    """Start fake engines; all are stopped at the end of the test."""
    started: list[FakeEngine] = []

    def start(**settings: Any) -> FakeEngine:
        started.append(FakeEngine(**settings))
        return started[-1]

    yield start
    for engine in started:
        engine.close()


@pytest.fixture
def engine(start_engine: Callable[..., FakeEngine]) -> FakeEngine:
    return start_engine()
