# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Values against a role's argument specification, one sentence for every mismatch.

Ansible's own validator stops at unknown variables and reports values as it finds them; here every
problem is named with its place, and no value of a secret is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.baremetal.vllm.plugins.plugin_utils._flags import nearest

Spec = Mapping[str, Any]

_CONTAINERS = {"dict": Mapping, "list": list}
_WORDS = {
    "bool": "true or false",
    "dict": "a dictionary",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "a string",
}
_LONGEST_SHOWN = 60


def kind(value: Any) -> str:
    """A value's type in words."""
    if value is None:
        return "null"
    for name, words in (("dict", Mapping), ("list", list), ("bool", bool), ("str", str)):
        if isinstance(value, words):
            return _WORDS[name] if name != "bool" else "a boolean"
    return "a number"


def shown(value: Any, secret: bool = False) -> str:
    """A value as a sentence may repeat it: secrets and containers only by their type."""
    if secret or isinstance(value, (Mapping, list)):
        return kind(value)
    text = "null" if value is None else repr(value if isinstance(value, bool) else _plain(value))
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def check_value(where: str, value: Any, spec: Spec) -> tuple[Any, list[str]]:
    """The value as its type, and what is wrong with it.

    :param where: how a sentence names the value: ``gpu-1: vllm_instances[0].port``.
    :returns: the converted value and sentences; of a dictionary the entries that are right, of a
        list None for each item that is not, None where nothing can be used.
    """
    wanted = spec.get("type", "str")
    secret = bool(spec.get("no_log"))
    if wanted in _CONTAINERS:
        # The roles use the variable as it is, so text that Ansible could split will not do.
        if not isinstance(value, _CONTAINERS[wanted]):
            return None, [f"{where} is {kind(value)}; it must be {_WORDS[wanted]}."]
        return (
            _check_list(where, value, spec) if wanted == "list" else _check_dict(where, value, spec)
        )
    # A null or a container is never a scalar, though Ansible would make text of it.
    if wanted != "raw" and (value is None or isinstance(value, (Mapping, list))):
        return None, [f"{where} is {shown(value, secret)}; it must be {_WORDS[wanted]}."]
    outcome = ArgumentSpecValidator({"value": {"type": wanted}}).validate({"value": value})
    if outcome.error_messages:
        return None, [f"{where} is {shown(value, secret)}; it must be {_WORDS[wanted]}."]
    converted = outcome.validated_parameters["value"]
    choices = spec.get("choices")
    if choices and converted not in choices:
        allowed = ", ".join(str(choice) for choice in choices)
        return None, [f"{where} is {shown(value, secret)}; allowed are {allowed}."]
    return converted, []


def _check_list(where: str, value: list[Any], spec: Spec) -> tuple[list[Any], list[str]]:
    element = {key: spec[key] for key in ("options", "choices", "no_log") if key in spec}
    element["type"] = spec.get("elements", "raw")
    items: list[Any] = []
    problems: list[str] = []
    for index, item in enumerate(value):
        converted, found = check_value(f"{where}[{index}]", item, element)
        items.append(converted)
        problems += found
    return items, problems


def _check_dict(
    where: str, value: Mapping[str, Any], spec: Spec
) -> tuple[dict[str, Any], list[str]]:
    options = spec.get("options")
    if not options:
        return dict(value), []
    result: dict[str, Any] = {}
    problems: list[str] = []
    for key, item in value.items():
        if key not in options:
            hint = nearest(str(key), options) or f"; allowed are {', '.join(options)}."
            problems.append(f"{where}.{key} is not a key of it{hint}")
            continue
        converted, found = check_value(f"{where}.{key}", item, options[key])
        problems += found
        if converted is not None or not found:
            result[key] = converted
    # What is to go away needs its name and nothing else.
    required = ["name"] if value.get("state") == "absent" else list(options)
    problems += [
        f"{where}.{key} is missing; it is required."
        for key in required
        if options.get(key, {}).get("required") and key not in value
    ]
    return result, problems
