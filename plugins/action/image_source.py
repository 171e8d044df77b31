# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Asks how large images are, on the controller; documented in modules/image_source.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    credentials_of,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
    Reference,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import BundleError, read
from ansible_collections.baremetal.vllm.plugins.plugin_utils._image_size import (
    Question,
    Size,
    sizes_of,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._variables import plain

_ARGUMENTS: dict[str, Any] = {
    "images": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "image": {"type": "str", "required": True},
            "architecture": {"type": "str", "required": True},
            "bundle": {"type": "path", "default": ""},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "ca": {"type": "str", "default": ""},
        },
    },
    "registry_config": {"type": "path", "default": "~/.docker/config.json"},
    "insecure_registries": {"type": "list", "elements": "str", "default": []},
    "ca_path": {"type": "path"},
}

Wanted = Mapping[str, str]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Asks registries and bundles, and never fails for what they do not tell."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars or {})
        _validated, arguments = self.validate_argument_spec(_ARGUMENTS)
        arguments = plain(arguments)
        found: list[Size | None] = []
        questions: list[Question] = []
        for wanted in arguments["images"]:
            try:
                known = _bundled(wanted) if wanted["bundle"] else None
                if known is None:
                    questions.append(_question(wanted, arguments))
            except (BundleError, PullError) as error:
                known = Size(None, str(error))
            found.append(known)
        answers = iter(sizes_of(questions))
        images = [
            _told(wanted, known or next(answers))
            for wanted, known in zip(arguments["images"], found)
        ]
        return result | {"changed": False, "images": images}


def _bundled(wanted: Wanted) -> Size:
    """What a bundle says. Raises BundleError, PullError."""
    digest = Reference.parse(wanted["image"]).digest
    for entry in read(wanted["bundle"])["images"]:
        if entry["digest"] == digest:
            return Size(int(entry["size"]))
    return Size(None, f"The bundle {wanted['bundle']} has no image {wanted['image']}.")


def _question(wanted: Wanted, arguments: Mapping[str, Any]) -> Question:
    """Raises PullError."""
    config = os.path.expanduser(arguments["registry_config"])
    return Question(
        reference=wanted["image"],
        architecture=wanted["architecture"],
        credentials=(wanted["username"], wanted["password"])
        if wanted["username"]
        else credentials_of(config, Reference.parse(wanted["image"]).registry),
        ca_path=arguments["ca_path"] or "",
        authority=wanted["ca"],
        insecure=tuple(arguments["insecure_registries"]),
    )


def _told(wanted: Wanted, size: Size) -> dict[str, Any]:
    try:
        name = Reference.parse(wanted["image"]).short
    except PullError:
        name = wanted["image"]
    return {
        "image": wanted["image"],
        "name": name,
        "architecture": wanted["architecture"],
        "bytes": size.bytes,
        "problem": size.problem,
    }
