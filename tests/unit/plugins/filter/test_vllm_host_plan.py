# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.baremetal.vllm.plugins.filter.vllm_host_plan import FilterModule
from ansible_collections.baremetal.vllm.plugins.plugin_utils._host_plan import plan_host

SETTINGS = {
    "release": "0.32.0",
    "image": "vllm@sha256:" + "1" * 64,
    "listen_address": "192.0.2.7",
    "state_directory": "/var/lib/vllm",
    "container_user": "2000:0",
}
PLAN = FilterModule().filters()["vllm_host_plan"]


def test_templated_values_give_the_plan_of_plain_ones() -> None:
    """A release's id is a hash: with Ansible's tagged values in it, every run would switch."""
    instance = {"name": "a", "model": "/srv/b/c", "options": {"dtype": "auto"}}
    variables = {
        "name": trust_as_template("{{ 'a' }}"),
        "instances": [{**instance, "name": trust_as_template("{{ name }}")}],
        "settings": SETTINGS,
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    instances = templar.template(trust_as_template("{{ instances }}"))
    settings = templar.template(trust_as_template("{{ settings }}"))
    assert PLAN(instances, settings, {}) == plan_host([instance], SETTINGS, {})


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        (
            {"name": "a", "model": "/srv/b/c", "options": {"dtpye": "auto"}},
            "^vllm_host_plan: .*dtpye",
        ),
        ({"name": "a", "model": "/srv/b/c", "gpus": "some"}, "^vllm_host_plan: .*gpus"),
    ],
)
def test_an_instance_that_cannot_be_built_is_an_ansible_error(
    instance: dict[str, Any], said: str
) -> None:
    with pytest.raises(AnsibleError, match=said):
        PLAN([instance], SETTINGS, {})
