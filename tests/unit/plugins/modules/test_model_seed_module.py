# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The module's parameters; what it starts, the tests of _model_seed.py see."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils._model_seed import SeedError
from ansible_collections.baremetal.vllm.plugins.modules import model_seed

KEY = "k3y" * 12
GIVEN = {"store": "/srv/models", "image": "vllm:1", "address": "192.0.2.11", "key": KEY}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the module with these parameters; its result, and what it began and ended."""
    did = []
    monkeypatch.setattr(
        model_seed, "start", lambda seed: did.append(seed) or {"files": 3, "bytes": 12}
    )
    monkeypatch.setattr(model_seed, "stop", lambda: did.append("stopped"))

    def ran(check=False, **parameters):
        given = {**parameters, "_ansible_check_mode": check}
        with patch_module_args(given), pytest.raises(SystemExit):
            model_seed.main()
        return json.loads(capsys.readouterr().out), did

    return ran


def test_it_begins_to_serve_and_reports_no_change(run):
    result, (seed,) = run(**GIVEN, port=8791, timeout=60)
    assert (result["changed"], result["files"], result["bytes"]) == (False, 3, 12)
    assert (seed.store, seed.image, seed.user) == ("/srv/models", "vllm:1", "2000:0")
    assert (seed.address, seed.port, seed.seconds, seed.key) == ("192.0.2.11", 8791, 60, KEY)


def test_it_shows_the_key_to_nobody(run):
    assert KEY not in json.dumps(run(**GIVEN)[0])


def test_it_ends_to_serve(run):
    result, did = run(state="stopped")
    assert (result["changed"], did) == (False, ["stopped"])


@pytest.mark.parametrize("parameters", [GIVEN, {"state": "stopped"}])
def test_check_mode_does_nothing(run, parameters):
    result, did = run(check=True, **parameters)
    assert (result["changed"], did) == (False, [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "short"}, "key: allowed are"),
        ({"key": "with/slash" * 5}, "key: allowed are"),
        ({"timeout": 0}, "timeout: 0 is no time"),
    ],
)
def test_wrong_parameters_are_refused(run, changes, said):
    result, did = run(**{**GIVEN, **changes})
    assert result["failed"] and said in result["msg"]
    assert did == []


@pytest.mark.parametrize("name", GIVEN)
def test_all_that_serving_needs_has_to_be_given(run, name):
    result, did = run(**{key: value for key, value in GIVEN.items() if key != name})
    assert result["failed"] and result["msg"].endswith(f"missing: {name}")
    assert did == []


def test_a_failure_is_its_sentence(run, monkeypatch):
    def fail(seed):
        raise SeedError("The port is taken.")

    monkeypatch.setattr(model_seed, "start", fail)
    assert run(**GIVEN)[0]["msg"] == "The port is taken."
