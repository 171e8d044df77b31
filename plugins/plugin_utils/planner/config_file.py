# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Values of a ``config.json``, each with the type that is asked for, or a sentence."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ansible_collections.baremetal.vllm.plugins.plugin_utils.planner.types import Refusal

# Far beyond every published model, so that a typing error is named instead of worked with.
MOST = 2**31 - 1
MOST_LAYERS = 2**12
MOST_HEADS = 2**12
MOST_EXPERTS = 2**16
_MOST_STRETCHED = 2**20

_Item = TypeVar("_Item", str, int)


class Section:
    """One mapping of a config.json; every value comes out with the type that is asked for.

    :param where: how a sentence names it: ``config.json of org/model``.
    """

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self.values = values

    def has(self, key: str) -> bool:
        """Whether it is there and neither null, false, 0 nor empty."""
        return bool(self.values.get(key))

    def number(self, key: str, *, least: int = 0, most: int = MOST) -> int:
        """A whole number, or 0 where there is none."""
        value = self.values.get(key)
        if isinstance(value, list):  # Some remote code repeats one number for every layer.
            value = value[0] if value else None
        if value is None or value is False:
            return 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key, f"a whole number from {least} to {most}")
        return value

    def first(self, keys: Iterable[str], *, most: int = MOST) -> int:
        """The first of these numbers that is set, or 0."""
        return next((found for key in keys if (found := self.number(key, most=most))), 0)

    def needed(self, key: str, *, most: int = MOST) -> int:
        """A whole number from 1 that has to be there."""
        value = self.values.get(key)
        if value is None:
            raise Refusal(f"{self.where} lacks {key}; the planner needs a whole number there.")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise self.wrong(key, f"a whole number from 1 to {most}")
        return value

    def factor(self, key: str) -> float:
        """By how much a context is stretched; 1 where nothing is said."""
        value = self.values.get(key)
        if value is None:
            return 1.0
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not known or not 1 <= value <= _MOST_STRETCHED:
            raise self.wrong(key, f"a number from 1 to {_MOST_STRETCHED}")
        return float(value)

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a name")
        return value or ""

    def flag(self, key: str, usual: bool = False) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return usual if value is None else value

    def section(self, key: str) -> Section:
        """A mapping in it; an empty one where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return Section(f"{key} in {self.where}", value or {})

    def items(self, key: str, kind: type[_Item]) -> list[_Item]:
        """A list whose entries are of one type; an empty one where there is none."""
        value = self.values.get(key)
        fits = isinstance(value, list) and all(
            isinstance(item, kind) and not isinstance(item, bool) for item in value
        )
        if value is not None and not fits:
            raise self.wrong(key, "a list of names" if kind is str else "a list of whole numbers")
        return list(value or ())

    def wrong(self, key: str, wanted: str) -> Refusal:
        """The sentence about a value of another type."""
        shown = reprlib.repr(self.values[key])
        return Refusal(
            f"{self.where} has {key}: {shown}, where vLLM takes {wanted}; restore the file."
        )


def mapping(name: str, config: object) -> Mapping[str, Any]:
    if not isinstance(config, Mapping):
        raise Refusal(f"config.json of {name} is no mapping of keys to values; restore the file.")
    return config
