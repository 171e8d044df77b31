# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The roles' variables of a host, as the roles will see them, before any role has run."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

ROLES_DIRECTORY = Path(__file__).resolve().parents[2] / "roles"

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
# Their names are the operator's own, and preflight has to see which of them YAML took for no text.
_NAMED_BY_CLIENT = ("edge_api_keys", "edge_client_limits")
_SECRETS = re.compile(r"(_(api|access|secret)_keys?|_token|_password|_secret)$")


class RoleInterfaces:
    """Argument specifications and defaults of the collection's roles, read from its files."""

    def __init__(self, loader: Any, roles: list[str] | None = None) -> None:
        """
        :param loader: Ansible's DataLoader.
        :param roles: names; None takes every role that has a specification.
        :raises AnsibleError: a named role is not there.
        """
        self._loader = loader
        found = sorted(path.parts[-3] for path in ROLES_DIRECTORY.glob("*/meta/argument_specs.yml"))
        self.roles = found if roles is None else roles
        for role in self.roles:
            if role not in found:
                raise AnsibleError(f"roles has {role!r}; the roles are {', '.join(found)}.")
        self.defaults: dict[str, Any] = {}
        for role in self.roles:
            defaults = ROLES_DIRECTORY / role / "defaults" / "main.yml"
            if defaults.is_file():
                self.defaults |= (
                    loader.load_from_file(str(defaults), trusted_as_template=True) or {}
                )

    @functools.cached_property
    def specs(self) -> dict[str, Mapping[str, Any]]:
        """Options by role. Reading them takes most of the time, and few who ask want them."""
        found = {}
        for role in self.roles:
            path = ROLES_DIRECTORY / role / "meta" / "argument_specs.yml"
            meta = self._loader.load_from_file(str(path))
            found[role] = meta["argument_specs"]["main"].get("options", {})
        return found

    def owns(self, name: str) -> bool:
        return any(name.startswith(f"{role}_") for role in self.roles)


class HostVariables(Mapping[str, Any]):
    """Variables of one host with a role's prefix, templated when they are asked for.

    A variable that refers to ``ansible_facts``, itself or through another variable, is named in
    ``waiting``, as its value without facts may be another one, and is left out if it has none. What
    cannot be templated for another reason is left out too and is told in ``errors``.
    """

    def __init__(self, interfaces: RoleInterfaces, raw: Mapping[str, Any], templar: Any) -> None:
        self._raw = {**interfaces.defaults, **raw}
        self._names = [name for name in self._raw if interfaces.owns(name)]
        self._templar = templar.copy_with_new_env(available_variables=self._raw)
        self._values: dict[str, Any] | None = None
        self.errors: dict[str, str] = {}
        self.waiting: list[str] = []

    def _load(self) -> dict[str, Any]:
        if self._values is None:
            self._values = {}
            for name in self._names:
                if needs_facts := self._needs_facts(self._raw[name]):
                    self.waiting.append(name)
                try:
                    value = self._templar.template(self._raw[name])
                    self._values[name] = (_with_keys if name in _NAMED_BY_CLIENT else plain)(value)
                except AnsibleError as error:
                    if not needs_facts:
                        detail = "" if _SECRETS.search(name) else f" ({_first_line(error)})"
                        self.errors[name] = f"cannot be templated{detail}; mend its template."
        return self._values

    def _needs_facts(self, raw: Any, seen: frozenset[str] = frozenset()) -> bool:
        if isinstance(raw, Mapping):
            return any(self._needs_facts(value, seen) for value in raw.values())
        if isinstance(raw, list):
            return any(self._needs_facts(value, seen) for value in raw)
        if not isinstance(raw, str) or "{" not in raw:
            return False
        names = set(_IDENTIFIER.findall(raw))
        return "ansible_facts" in names or any(
            self._needs_facts(self._raw[name], seen | {name})
            for name in names - seen
            if name in self._raw
        )

    def __getitem__(self, name: str) -> Any:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _with_keys(value: Any) -> Any:
    """The value as `plain` gives it, but for keys that are no text."""
    if not isinstance(value, Mapping):
        return plain(value)
    return {str(key) if isinstance(key, str) else key: plain(item) for key, item in value.items()}


def plain(value: Any) -> Any:
    """The value without Ansible's tags and lazy containers, as json and yaml write it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for exact in (int, float):
        if isinstance(value, exact):
            return exact(value)
    return str(value)
