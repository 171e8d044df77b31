# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Asking a hub for commits, against a real server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _web
from ansible_collections.baremetal.vllm.plugins.plugin_utils._model_commit import (
    ModelError,
    commit_of,
)
from ansible_collections.baremetal.vllm.tests.unit.fake_registry import FakeRegistry

COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    monkeypatch.setattr(_web, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    server = FakeRegistry(models={"lab/a": {"main": COMMIT, "pr/1": "a" * 40}})
    yield server
    server.close()


@pytest.mark.parametrize(
    ("model", "commit"), [("lab/a", COMMIT), ("lab/a@main", COMMIT), ("lab/a@pr/1", "a" * 40)]
)
def test_a_revision_is_resolved(hub: FakeRegistry, model: str, commit: str) -> None:
    assert commit_of(model, "huggingface", f"{hub.url}/") == commit


def test_the_token_is_sent_to_the_hub(hub: FakeRegistry) -> None:
    hub.hub_token = "hf_hunter2"
    assert commit_of("lab/a", "huggingface", hub.url, "hf_hunter2") == COMMIT


def test_a_hub_that_is_busy_is_asked_again(hub: FakeRegistry) -> None:
    hub.statuses = [500, 503]
    assert commit_of("lab/a", "huggingface", hub.url) == COMMIT


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([401], "does not let us see model lab/b without a token; check its name"),
        ([403], "does not let us see model lab/b without a token; check its name"),
        ([404], "has no model lab/b, or no main of it;"),
        ([429], "because of its rate limit; give a token in model_store_token"),
        ([502] * 3, "answered 502 for model lab/b;"),
    ],
)
def test_a_refusal_is_a_sentence(hub: FakeRegistry, statuses: list[int], said: str) -> None:
    hub.statuses = statuses
    with pytest.raises(ModelError) as caught:
        commit_of("lab/b", "huggingface", hub.url)
    assert str(caught.value).startswith(f"Hub {hub.host} ")
    assert said in str(caught.value)


def test_a_token_that_fits_in_no_header_is_not_repeated(hub: FakeRegistry) -> None:
    with pytest.raises(ModelError, match="a secret has characters that do not belong") as told:
        commit_of("lab/a", "huggingface", hub.url, "hf_hunter2\nX-Other: 1")
    assert "hunter2" not in str(told.value)
