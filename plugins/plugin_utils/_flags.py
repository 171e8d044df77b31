# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What each vLLM release understands: flags of ``vllm serve`` and ``VLLM_*`` variables."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "data" / "vllm_flags.json"

# The image's entrypoint is `vllm serve` from this release on (docker/Dockerfile of vLLM).
OLDEST_RELEASE = "0.11.1"

# Flags that the collection sets itself, and where a person says it instead.
OWNED_FLAGS = {
    "api-key": "set vllm_api_key",
    "config": "put the flags into options",
    "device-ids": "set the instance's gpus",
    "download-dir": "set model_store_directory",
    "hf-token": "set model_store_token",
    "host": "let the groups gpu_hosts and edge_hosts decide the address",
    "model": "set the instance's model",
    "port": "set the instance's port",
    "revision": "write the instance's model as org/name@revision",
    "root-path": "leave paths to the edge",
    "served-model-name": "set the instance's name",
    "shutdown-timeout": "set vllm_shutdown_timeout",
    "ssl-ca-certs": "end TLS at the edge",
    "ssl-certfile": "end TLS at the edge",
    "ssl-keyfile": "end TLS at the edge",
    "uds": "set the instance's port",
}

# Secrets would be readable in the release directory; they have a file of their own.
SECRET_VARIABLES = {
    "HF_TOKEN": "model_store_token",
    "HUGGING_FACE_HUB_TOKEN": "model_store_token",
    "VLLM_API_KEY": "vllm_api_key",
}

# Variables that would contradict what the collection sets itself.
OWNED_VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "set the instance's gpus",
    "NVIDIA_VISIBLE_DEVICES": "set the instance's gpus",
}

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# vLLM reads 8k, 1.5M and the like where it counts tokens or bytes.
_HUMAN_INT = re.compile(r"-?\d+(\.\d+)?[kKmMgGtT]?")


@dataclass(frozen=True)
class Span:
    """First and last release that know a flag or a variable."""

    first: str
    last: str


@dataclass(frozen=True)
class Flag(Span):
    """A flag of ``vllm serve``; ``kinds`` are bool, switch, int, float, str, list, dict, any."""

    kinds: frozenset[str]
    choices: tuple[str, ...]


@functools.cache
def version(release: str) -> tuple[int, ...]:
    """``0.10.1.1`` as numbers, for comparisons."""
    return tuple(int(part) for part in release.split("."))


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean x?`` for the nearest of ``names``, or nothing."""
    found = get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


@dataclass(frozen=True)
class Catalogue:
    """The data file, with the questions that are asked of it."""

    releases: tuple[str, ...]
    flags: Mapping[str, Flag]
    variables: Mapping[str, Span]

    @property
    def supported(self) -> tuple[str, ...]:
        """Releases that this collection can run."""
        floor = version(OLDEST_RELEASE)
        return tuple(release for release in self.releases if version(release) >= floor)

    def has_flag(self, name: str, release: str) -> bool:
        flag = self.flags.get(name)
        return flag is not None and self.absence(flag, release) == ""

    def absence(self, span: Span, release: str) -> str:
        """Why ``release`` does not know it: ``it came with 0.18.0``; empty where it does."""
        if version(release) < version(span.first):
            return f"it came with {span.first}"
        if version(release) > version(span.last):
            gone = self.releases[self.releases.index(span.last) + 1]
            return f"it was removed in {gone}"
        return ""

    def flags_of(self, release: str) -> list[str]:
        return [name for name in self.flags if self.has_flag(name, release)]


@functools.lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue shipped with the collection."""
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    return Catalogue(
        releases=tuple(data["releases"]),
        flags={
            name: Flag(
                first=entry["first"],
                last=entry["last"],
                kinds=frozenset(entry["type"].split("|")),
                choices=tuple(entry.get("choices", ())),
            )
            for name, entry in data["flags"].items()
        },
        variables={
            name: Span(first=entry["first"], last=entry["last"])
            for name, entry in data["variables"].items()
        },
    )


def canonical(name: str) -> str:
    """``max_num_seqs`` as ``max-num-seqs``; what follows a dot is a key of JSON and stays."""
    base, dot, rest = name.partition(".")
    return base.replace("_", "-") + dot + rest


def _positive_name(name: str, flags: Mapping[str, Flag]) -> str:
    """``x`` for ``no-x`` where only ``x`` is a flag; empty otherwise."""
    if name.startswith("no-") and name not in flags and name[3:] in flags:
        return name[3:]
    return ""


def normalise(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options under vLLM's own names: ``no-x: true`` becomes ``x: false``."""
    flags = catalogue().flags
    result: dict[str, Any] = {}
    for given, value in options.items():
        name = canonical(str(given))
        positive = _positive_name(name, flags)
        if positive and value is True:
            result[positive] = False
        else:
            result[name] = value
    return result


def check_release(release: str) -> str:
    """Empty where ``release`` can be run, else what is allowed."""
    supported = catalogue().supported
    if release in supported:
        return ""
    hint = nearest(release, supported, cutoff=0.8) or "; set the one inside vllm_image."
    return f"is {release!r}; known releases are {supported[0]} to {supported[-1]}{hint}"


def check_options(options: Mapping[str, Any], release: str) -> dict[str, str]:
    """What is wrong with each option: name as given -> what is said after that name."""
    problems: dict[str, str] = {}
    seen: dict[str, str] = {}
    for given, value in options.items():
        key = str(given)
        name = canonical(key)
        problem = _check_option(name, value, release)
        positive = _positive_name(name, catalogue().flags) or name
        if not problem and positive in seen:
            problem = f"says the same flag as {seen[positive]}; keep one of them."
        seen.setdefault(positive, key)
        if problem:
            problems[key] = problem
    return problems


def _check_option(name: str, value: Any, release: str) -> str:
    known = catalogue()
    if name.startswith("-"):
        return "must be written without leading dashes."
    base, dot, _key = name.partition(".")
    positive = _positive_name(base, known.flags)
    base = positive or base
    if base in OWNED_FLAGS:
        return f"is set by the collection; leave it out and {OWNED_FLAGS[base]}."
    flag = known.flags.get(base)
    if flag is None:
        hint = nearest(base, known.flags_of(release)) or "; see `vllm serve --help=all`."
        return f"is no flag of vLLM {release}{hint}"
    absence = known.absence(flag, release)
    if absence:
        hint = nearest(base, known.flags_of(release), cutoff=0.75) or "; leave it out."
        return f"is no flag of vLLM {release}: {absence}{hint}"
    if positive:
        return _check_negation(positive, flag, value)
    if dot:
        if flag.kinds & {"dict", "any"}:
            return ""
        return f"has no keys: --{base} takes {_kinds_in_words(flag)}, not a dictionary."
    return _check_value(flag, value)


def _check_negation(positive: str, flag: Flag, value: Any) -> str:
    if not flag.kinds & {"bool", "switch", "any"}:
        return f"negates --{positive}, which is no switch; give {positive} a value or leave it out."
    if value is not True:
        return f"is {value!r}; write `{positive}: true` or `no-{positive}: true`."
    return ""


def _check_value(flag: Flag, value: Any) -> str:
    if value is None:
        return ""
    given = f"is {value!r}" if isinstance(value, (str, int, float)) else f"is a {_kind(value)}"
    if not any(_fits(kind, value) for kind in flag.kinds):
        return f"{given}; it takes {_kinds_in_words(flag)}."
    if flag.choices:
        wrong = [
            str(item)
            for item in (value if isinstance(value, list) else [value])
            if str(item) not in flag.choices
        ]
        if wrong:
            return f"is {wrong[0]!r}; allowed are {', '.join(flag.choices)}."
    return ""


def _kind(value: Any) -> str:
    return "dictionary" if isinstance(value, Mapping) else "list"


_WORDS = {
    "bool": "true or false (without quotes)",
    "switch": "true or false (without quotes)",
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "list": "a list",
    "dict": "a dictionary",
}


def _kinds_in_words(flag: Flag) -> str:
    return " or ".join(_WORDS[kind] for kind in sorted(flag.kinds))


def _fits(kind: str, value: Any) -> bool:
    """Whether vLLM's parser, which sees text, takes ``value`` for a flag of this kind."""
    if kind == "any":
        return True
    if kind in ("bool", "switch"):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == "dict":
        return isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("{"))
    if kind == "list":
        return isinstance(value, (list, str, int, float))
    if kind == "int":
        return isinstance(value, int) or (
            isinstance(value, str) and _HUMAN_INT.fullmatch(value) is not None
        )
    if kind == "float":
        return isinstance(value, (int, float)) or (isinstance(value, str) and _is_number(value))
    return isinstance(value, (str, int, float))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_environment(environment: Mapping[str, Any], release: str) -> dict[str, str]:
    """What is wrong with each variable: name -> what is said after it, without its value."""
    return {
        str(name): problem
        for name, value in environment.items()
        if (problem := _check_variable(str(name), value, release))
    }


def _check_variable(name: str, value: Any, release: str) -> str:
    if not _VARIABLE_NAME.fullmatch(name):
        return "is no variable name; letters, digits and underscores, not a digit first."
    if name in SECRET_VARIABLES:
        return f"is a secret; set {SECRET_VARIABLES[name]} instead, which stays out of the release."
    if name in OWNED_VARIABLES:
        return f"is set by the collection; leave it out and {OWNED_VARIABLES[name]}."
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return "must be a string or a number; write '1' or '0' for a switch."
    if any(character in str(value) for character in "\n\r\0"):
        return "must be one line; an environment file cannot hold line breaks."
    known = catalogue()
    if name in known.variables:
        absence = known.absence(known.variables[name], release)
        return f"is not read by vLLM {release}: {absence}; leave it out." if absence else ""
    if name.startswith("VLLM_"):
        # Plugins bring variables of their own: only what looks misspelt is refused.
        hint = nearest(name, known.variables, cutoff=0.9)
        return f"is not read by vLLM {release}{hint}" if hint else ""
    return ""
