#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: model_verify
short_description: Read every file of a host's models and compare it with its manifest
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Computes the sha256 of every file of the copies in a store, several files at once, and names
    each one that differs, is missing, or is not in the manifest.
  - Fails unless all is as it was when it was fetched. M(baremetal.vllm.model_fetch) with
    O(baremetal.vllm.model_fetch#module:check=full) repairs what differs.
  - Reads every byte, so it takes as long as the disk needs for that.
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  store:
    description: The directory of all models. One that does not exist has none.
    type: path
    default: /var/lib/vllm/models
  models:
    description:
      - The copies to verify. Empty for all that the store has; downloads that are under way or
        were cut off are none.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: The model, as C(org/name).
        type: str
        required: true
      commit:
        description: The commit, 40 hexadecimal digits.
        type: str
        required: true
seealso:
  - module: baremetal.vllm.model_fetch
"""

EXAMPLES = r"""
- name: Verify all models of the host
  baremetal.vllm.model_verify:

- name: Verify one model
  baremetal.vllm.model_verify:
    models:
      - model: openai/gpt-oss-20b
        commit: 6cee5e81ee83917806bbde320786a8fb61efebee
"""

RETURN = r"""
problems:
  description: What is wrong, a sentence for each file.
  returned: always
  type: list
  elements: str
  sample:
    - >-
      openai/gpt-oss-20b at 6cee5e81: model-00000-of-00002.safetensors has the sha256 9b1e04d2c3f5
      instead of 16d0f997dcfc.
verified:
  description: The copies in which nothing is wrong.
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: The model.
      type: str
      sample: openai/gpt-oss-20b
    commit:
      description: The commit.
      type: str
      sample: 6cee5e81ee83917806bbde320786a8fb61efebee
    bytes:
      description: Bytes that were read.
      type: int
      sample: 13761300984
    seconds:
      description: How long that took.
      type: float
      sample: 11.4
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    Copy,
    StoreError,
    look,
    verify,
)


def _wanted(store: str, models: list[dict[str, str]]) -> list[Copy]:
    """Return the copies to verify. Raises StoreError for names that are none."""
    if models:
        return [Copy.of(store, each["model"], each["commit"]) for each in models]
    copies = [Copy.of(store, each["model"], each["commit"]) for each in look(store)]
    return [each for each in copies if os.path.isdir(each.directory)]


def _verify_all(copies: t.Iterable[Copy]) -> dict[str, t.Any]:
    problems, verified = [], []
    for copy in copies:
        try:
            found = verify(copy)
        except StoreError as error:
            problems.append(str(error))
            continue
        problems += [f"{copy}: {each.path} {each.text}." for each in found.problems]
        if not found.problems:
            numbers = {"bytes": found.bytes, "seconds": found.seconds}
            verified.append({"model": copy.model, "commit": copy.commit, **numbers})
    return {"changed": False, "problems": problems, "verified": verified}


def main() -> None:
    text = {"type": "str", "required": True}
    options = {"model": text, "commit": text}
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "default": "/var/lib/vllm/models"},
            "models": {"type": "list", "elements": "dict", "default": [], "options": options},
        },
        supports_check_mode=True,
    )
    try:
        result = _verify_all(_wanted(module.params["store"], module.params["models"]))
    except StoreError as error:
        module.fail_json(msg=str(error), problems=[str(error)], verified=[])
    if result["problems"]:
        advice = "Fetch it again with model_fetch and check=full, then restart its engines."
        module.fail_json(msg=" ".join([*result["problems"], advice]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
