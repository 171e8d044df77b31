# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.baremetal.vllm.plugins.filter.vllm_release import (
    FilterModule,
    vllm_release,
)

SETTINGS = {"release": "0.32.0", "image": "vllm@sha256:00", "listen_address": "127.0.0.1"}


def test_templated_values_give_the_bytes_of_plain_ones() -> None:
    """Ansible's tagged strings and lazy containers must not reach yaml or the hash."""
    plain = {"name": "a", "model": "/srv/b/c", "options": {"dtype": "auto", "max-num-seqs": 3}}
    variables = {
        "dtype": "auto",
        "name": trust_as_template("{{ 'a' }}"),
        "one": {
            "name": trust_as_template("{{ name }}"),
            "model": "/srv/b/c",
            "options": {"dtype": trust_as_template("{{ dtype }}"), "max-num-seqs": 3},
        },
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    templated = templar.template(trust_as_template("{{ one }}"))
    assert vllm_release(templated, SETTINGS) == vllm_release(plain, SETTINGS)


@pytest.mark.parametrize(
    ("instance", "settings", "said"),
    [
        ("a", SETTINGS, "takes an instance and settings, two dictionaries"),
        ({"name": "a", "model": "/srv/b/c"}, {}, "vllm_release: settings lacks release"),
    ],
)
def test_what_cannot_be_built_is_an_ansible_error(instance: Any, settings: Any, said: str) -> None:
    with pytest.raises(AnsibleError, match=said):
        FilterModule().filters()["vllm_release"](instance, settings)
