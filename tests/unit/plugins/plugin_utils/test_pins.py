# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils._pins import (
    PinsError,
    changes,
    check_pins,
    line_of,
    needs_pin,
    parse,
    pinned_image,
    pinned_model,
    render,
)

IMAGE = "docker.io/vllm/vllm-openai:v0.32.0"
DIGEST = f"sha256:{'a' * 64}"
OTHER_DIGEST = f"sha256:{'b' * 64}"
MODEL = "openai/gpt-oss-20b"
COMMIT = "c" * 40
PINS = {"images": {IMAGE: DIGEST}, "models": {MODEL: COMMIT, f"{MODEL}@v1": "d" * 40}}


# -- use -----------------------------------------------------------------------------------------


def test_an_image_is_named_by_its_pinned_digest_and_keeps_its_tag() -> None:
    assert pinned_image(IMAGE, PINS) == f"{IMAGE}@{DIGEST}"


@pytest.mark.parametrize("reference", ["vllm:v1", f"{IMAGE}@{OTHER_DIGEST}", f"vllm@{DIGEST}"])
def test_an_image_without_a_pin_stays_as_it_is(reference: str) -> None:
    assert pinned_image(reference, PINS) == reference


def test_a_model_is_named_by_its_pinned_commit() -> None:
    assert pinned_model(MODEL, PINS) == f"{MODEL}@{COMMIT}"
    assert pinned_model(f"{MODEL}@v1", PINS) == f"{MODEL}@{'d' * 40}"


@pytest.mark.parametrize("model", [f"{MODEL}@v2", f"{MODEL}@{'e' * 40}", "/srv/models/a"])
def test_a_model_without_a_pin_stays_as_it_is(model: str) -> None:
    assert pinned_model(model, PINS) == model


def test_without_pins_everything_stays_as_it_is() -> None:
    assert (pinned_image(IMAGE, {}), pinned_model(MODEL, {})) == (IMAGE, MODEL)


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        (MODEL, True),
        (f"{MODEL}@main", True),
        (f"{MODEL}@{'C' * 40}", True),
        (f"{MODEL}@{COMMIT}", False),
        ("/srv/models/a@b", False),
    ],
)
def test_which_models_need_a_pin(model: str, needed: bool) -> None:
    assert needs_pin(model) == needed


# -- shape ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pins", [PINS, {}, {"images": {}}, {"models": {MODEL: COMMIT}}])
def test_pins_as_they_are_written_are_right(pins: dict[str, Any]) -> None:
    assert check_pins(pins) == []


@pytest.mark.parametrize(
    ("pins", "problem"),
    [
        ([], "vllm_pins is a list; it must be a dictionary, run playbooks/pin.yml."),
        ({"image": {}}, "vllm_pins.image is not a key of it; allowed are images and models."),
        ({"images": []}, "vllm_pins.images is a list; it must be a dictionary."),
        (
            {"images": {IMAGE: DIGEST[:20]}},
            f"vllm_pins.images['{IMAGE}'] is 'sha256:aaaaaaaaaaaaa'; it must be sha256: and 64"
            " lower-case hex digits, run playbooks/pin.yml.",
        ),
        (
            {"images": {IMAGE: None}},
            f"vllm_pins.images['{IMAGE}'] is null; it must be sha256: and 64 lower-case hex digits,"
            " run playbooks/pin.yml.",
        ),
        (
            {"images": {"vllm": DIGEST}},
            "vllm_pins.images['vllm'] is no image by its tag; what has a digest needs no pin,"
            " remove it.",
        ),
        (
            {"models": {MODEL: 1111}},
            f"vllm_pins.models['{MODEL}'] is 1111; it must be a commit of 40 lower-case hex digits,"
            " run playbooks/pin.yml.",
        ),
        (
            {"models": {MODEL: "main"}},
            f"vllm_pins.models['{MODEL}'] is 'main'; it must be a commit of 40 lower-case hex"
            " digits, run playbooks/pin.yml.",
        ),
        (
            {"models": {"/srv/a": COMMIT}},
            "vllm_pins.models['/srv/a'] is no model that may move; a directory and a commit need no"
            " pin, remove it.",
        ),
    ],
)
def test_what_is_wrong_with_pins_is_told(pins: Any, problem: str) -> None:
    assert check_pins(pins) == [problem]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(check_pins({"images": {IMAGE: "a", "b:c": "d"}, "models": {"e/f": "g"}})) == 3


# -- the file ------------------------------------------------------------------------------------


def test_what_is_written_is_read_again() -> None:
    assert parse(render(PINS), "pins.yml") == PINS
    assert yaml.safe_load(render(PINS)) == {"vllm_pins": PINS}


def test_the_order_of_the_pins_does_not_matter() -> None:
    turned = {key: dict(reversed(entries.items())) for key, entries in reversed(PINS.items())}
    assert render(turned) == render(PINS)


def test_a_commit_of_digits_stays_text() -> None:
    pins = {"images": {}, "models": {MODEL: "1" * 40}}
    assert yaml.safe_load(render(pins)) == {"vllm_pins": pins}


def test_the_file_says_what_it_is_and_how_it_is_renewed() -> None:
    head = render({}).partition("vllm_pins:")[0]
    assert head.startswith("---\n# ")
    assert "playbooks/pin.yml" in head
    assert yaml.safe_load(render({})) == {"vllm_pins": {"images": {}, "models": {}}}


@pytest.mark.parametrize("text", ["", "---\n", "vllm_pins:\n", "vllm_pins:\n  images:\n"])
def test_a_file_without_pins_has_none(text: str) -> None:
    assert parse(text, "pins.yml") == {"images": {}, "models": {}}


@pytest.mark.parametrize(
    "text",
    [
        "vllm_image: a\nvllm_pins: {}\n",
        "- vllm_pins\n",
        "$ANSIBLE_VAULT;1.1;AES256\n6162\n",
        "vllm_pins: []\n[",
        "vllm_pins: {images: [a]}\n",
        "5\n",
    ],
)
def test_a_file_of_something_else_is_not_overwritten(text: str) -> None:
    with pytest.raises(PinsError, match=r"^pins\.yml holds something else than vllm_pins"):
        parse(text, "pins.yml")


def test_what_differs_is_listed_by_kind_and_name() -> None:
    old = {"images": {IMAGE: DIGEST, "a:b": DIGEST}, "models": {MODEL: COMMIT}}
    new = {"images": {IMAGE: OTHER_DIGEST}, "models": {MODEL: COMMIT, "x/y": COMMIT}}
    assert changes(old, new) == [
        {"what": "a:b", "kind": "image", "old": DIGEST, "new": ""},
        {"what": IMAGE, "kind": "image", "old": DIGEST, "new": OTHER_DIGEST},
        {"what": "x/y", "kind": "model", "old": "", "new": COMMIT},
    ]


def test_the_same_pins_differ_in_nothing() -> None:
    assert changes(PINS, PINS) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (DIGEST, OTHER_DIGEST, f"image {IMAGE}: moved: {DIGEST} -> {OTHER_DIGEST}"),
        ("", DIGEST, f"image {IMAGE}: pinned: {DIGEST}"),
        (DIGEST, "", f"image {IMAGE}: dropped, no host has it any more: {DIGEST}"),
    ],
)
def test_a_change_is_a_line(old: str, new: str, line: str) -> None:
    assert line_of({"what": IMAGE, "kind": "image", "old": old, "new": new}) == line
