# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a role says about its variables, it says the same in all three places."""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"

each_role = pytest.mark.parametrize("role", sorted(path.name for path in ROLES.iterdir()))


def read(role: str, name: str) -> dict[str, Any]:
    content = yaml.safe_load((ROLES / role / name).read_text())
    assert isinstance(content, dict), f"{role}/{name} holds no variables"
    return content


def entry_points(role: str) -> dict[str, dict[str, Any]]:
    """The options of each entry point."""
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    return {name: spec.get("options", {}) for name, spec in specs.items()}


def readme_variables(role: str) -> list[str]:
    """The first column of the table whose heading is `variable`."""
    lines = (ROLES / role / "README.md").read_text().splitlines()
    table = dropwhile(lambda line: not line.startswith("| variable |"), lines)
    rows = takewhile(lambda line: line.startswith("|"), table)
    return [found[1] for row in rows if (found := re.match(r"\| `(\w+)` \|", row))]


@each_role
def test_argument_specs_have_the_defaults(role: str) -> None:
    specified = {name: option.get("default") for name, option in entry_points(role)["main"].items()}
    assert specified == read(role, "defaults/main.yml")


@each_role
def test_other_entry_points_agree_with_main(role: str) -> None:
    points = entry_points(role)
    for options in points.values():
        assert options == {name: points["main"].get(name) for name in options}


@each_role
def test_readme_lists_every_variable_once(role: str) -> None:
    assert sorted(readme_variables(role)) == sorted(read(role, "defaults/main.yml"))


@each_role
def test_public_variables_begin_with_the_name_of_the_role(role: str) -> None:
    assert [
        name for name in read(role, "defaults/main.yml") if not name.startswith(f"{role}_")
    ] == []
