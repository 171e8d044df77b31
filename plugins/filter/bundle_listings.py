# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The filter that says of models what their source would say, from a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import (
    BundleError,
    listing_of,
    read,
)

DOCUMENTATION = r"""
name: bundle_listings
short_description: The listings of models that a bundle has
version_added: 0.3.0
author: The baremetal.vllm contributors
description:
  - Reads C(bundle.json) on the controller, and returns for the models in it what
    M(baremetal.vllm.model_source) returned when the bundle was written.
options:
  _input:
    description: The bundle, a directory on the controller.
    type: str
    required: true
  asked:
    description: Models as their source would be asked for them.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Know the files of a model
  ansible.builtin.set_fact:
    listings: "{{ '/srv/bundle' | baremetal.vllm.bundle_listings(['openai/gpt-oss-20b']) }}"
"""

RETURN = r"""
_value:
  description: A listing for each model that the bundle has, as it was asked for.
  type: list
  elements: dict
"""


def bundle_listings(directory: str, asked: Sequence[str]) -> list[dict[str, Any]]:
    """The listings that a bundle has; see DOCUMENTATION."""
    try:
        content = read(str(directory))
    except BundleError as error:
        raise AnsibleFilterError(f"bundle_listings: {error}") from error
    found = (listing_of(content, str(model)) for model in asked)
    return [listing for listing in found if listing is not None]


class FilterModule:
    """Filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"bundle_listings": bundle_listings}
