# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""``vllm_pins``: what the tags and branches of an inventory name, as somebody has reviewed it.

A tag or a branch may name something else tomorrow; a digest and a commit name one content for ever.
Keys are what the hosts' variables say, letter for letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils._instances import (
    is_local,
    split_image,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._specs import kind, shown

Pins = Mapping[str, Any]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Key of vllm_pins -> what one of its entries is called.
KINDS = {"images": "image", "models": "model"}

_HEAD = """\
---
# What the image tags and model revisions of this inventory name: digests and commits. site.yml uses
# them, and refuses a tag that names something else by now. Written by playbooks/pin.yml, which also
# renews it: run it with this inventory, review the difference, and commit this file.
"""


class PinsError(Exception):
    """A file that is none of pins; the text is one sentence for the operator."""


def is_commit(revision: str) -> bool:
    return bool(_COMMIT.fullmatch(revision))


def needs_pin(model: str) -> bool:
    """Whether a model is one of a hub (no directory) at a revision that may move."""
    return not is_local(model) and not is_commit(model.partition("@")[2])


# -- use -----------------------------------------------------------------------------------------


def check_pins(value: Any) -> list[str]:
    """What is wrong with ``vllm_pins``, one sentence each, from the variable's name on."""
    if not isinstance(value, Mapping):
        return [f"vllm_pins is {kind(value)}; it must be a dictionary, run playbooks/pin.yml."]
    problems = [
        f"vllm_pins.{key} is not a key of it; allowed are {' and '.join(KINDS)}."
        for key in value
        if key not in KINDS
    ]
    for key in KINDS:
        entries = value.get(key, {})
        if not isinstance(entries, Mapping):
            problems.append(f"vllm_pins.{key} is {kind(entries)}; it must be a dictionary.")
            continue
        check = _check_image if key == "images" else _check_model
        for what, pin in entries.items():
            found = check(str(what), pin)
            problems += [f"vllm_pins.{key}[{shown(what)}] {found}"] if found else []
    return problems


def _check_image(reference: str, digest: Any) -> str:
    _repository, tag, own_digest = split_image(reference)
    if not tag or own_digest:
        return "is no image by its tag; what has a digest needs no pin, remove it."
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return f"is {shown(digest)}; it must be sha256: and 64 lower-case hex digits, {_AGAIN}."
    return ""


def _check_model(model: str, commit: Any) -> str:
    if "/" not in model or not needs_pin(model):
        return "is no model that may move; a directory and a commit need no pin, remove it."
    if not isinstance(commit, str) or not is_commit(commit):
        return f"is {shown(commit)}; it must be a commit of 40 lower-case hex digits, {_AGAIN}."
    return ""


_AGAIN = "run playbooks/pin.yml"


def pinned_image(reference: str, pins: Pins) -> str:
    """The reference with its pinned digest (``repository:tag@sha256:...``), or as it is.

    Docker goes by the digest then; the tag stays for people, and for what is read from it.
    """
    digest = pins.get("images", {}).get(reference, "")
    return f"{reference}@{digest}" if digest and "@" not in reference else reference


def pinned_model(model: str, pins: Pins) -> str:
    """The model at its pinned commit (``org/name@<commit>``), or as it is."""
    commit = pins.get("models", {}).get(model, "") if needs_pin(model) else ""
    return f"{model.partition('@')[0]}@{commit}" if commit else model


# -- the file ------------------------------------------------------------------------------------


def render(pins: Pins) -> str:
    """The file: the same pins are the same bytes, whenever they are written."""
    lines = [_HEAD + "vllm_pins:"]
    for key in KINDS:
        entries = pins.get(key, {})
        lines.append(f"  {key}:" if entries else f"  {key}: {{}}")
        # Quoted: a commit may consist of digits alone, and is not to become a number.
        lines += [
            f"    {json.dumps(what)}: {json.dumps(entries[what])}" for what in sorted(entries)
        ]
    return "\n".join(lines) + "\n"


def parse(text: str, path: str) -> dict[str, dict[str, str]]:
    """The pins in a file, which may have been edited by hand; empty text has none.

    :raises PinsError: there is something else in it, which must not be overwritten.
    """
    try:
        content = yaml.safe_load(text) or {}
        if set(content) - {"vllm_pins"}:
            raise ValueError
        pins = content.get("vllm_pins") or {}
        return {
            key: {str(what): str(pin) for what, pin in (pins.get(key) or {}).items()}
            for key in KINDS
        }
    except (yaml.YAMLError, ValueError, TypeError, AttributeError):
        raise PinsError(
            f"{path} holds something else than vllm_pins, and is not overwritten; move that to"
            " another file, or name another one in path (-e pins_file=FILE for playbooks/pin.yml)."
        ) from None


def changes(old: Pins, new: Pins) -> list[dict[str, str]]:
    """What differs: ``what``, ``kind``, ``old`` and ``new``; empty is what is not there."""
    return [
        {"what": what, "kind": name, "old": before.get(what, ""), "new": after.get(what, "")}
        for key, name in KINDS.items()
        for before, after in [(old.get(key, {}), new.get(key, {}))]
        for what in sorted({*before, *after})
        if before.get(what) != after.get(what)
    ]


def line_of(change: Mapping[str, str]) -> str:
    """A change as a line for people."""
    subject = f"{change['kind']} {change['what']}"
    if not change["old"]:
        return f"{subject}: pinned: {change['new']}"
    if not change["new"]:
        return f"{subject}: dropped, no host has it any more: {change['old']}"
    return f"{subject}: moved: {change['old']} -> {change['new']}"
