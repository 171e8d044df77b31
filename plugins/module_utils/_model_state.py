# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What a host has of the models that its instances want."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import look

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_DEFAULT_REVISIONS = ("main", "master")
"""What the sources call the revision of a model that is asked for without one."""


def models(store: str, wanted: t.Iterable[str], full: bool = False) -> dict[str, dict[str, t.Any]]:
    """Return what the store has of each model, by what was asked for.

    :param store: directory of the models; it need not exist.
    :param wanted: each `org/name` or `org/name@revision`.
    :param full: read every byte of complete copies, too, and not the sizes of their files alone.

    Each has `ask` (what the source is to be asked for: the commit where it is known, so that no
    copy is mended with what a branch has moved to), `commit` (null where nothing is known),
    `complete`, `damaged` (paths that are not as the manifest says), `bytes` as the manifest says,
    and `partial_bytes` of a cut download.
    """
    wanted = list(wanted)
    copies = look(store) if wanted else []
    return {asked: _state(store, asked, _find(copies, asked), full) for asked in wanted}


def _find(copies: t.Sequence[dict[str, t.Any]], asked: str) -> dict[str, t.Any] | None:
    name, _at, revision = asked.partition("@")
    names = (revision,) if revision else _DEFAULT_REVISIONS
    for copy in copies:
        by_name = bool(set(names) & set(copy["revisions"]))
        if copy["model"] == name and (by_name or copy["commit"] == revision):
            return copy
    # Nobody has recorded it here, but a commit needs no record.
    return {"model": name, "commit": revision} if _COMMIT.match(revision) else None


def _state(store: str, asked: str, copy: dict[str, t.Any] | None, full: bool) -> dict[str, t.Any]:
    if copy is None:
        unknown: dict[str, t.Any] = {"ask": asked, "commit": None, "complete": False, "damaged": []}
        return {**unknown, "bytes": 0, "partial_bytes": 0}
    damaged = [*copy.get("missing", []), *copy.get("wrong_size", [])]
    if full and copy.get("complete"):
        damaged = _differing(store, copy)
    return {
        "ask": f"{copy['model']}@{copy['commit']}",
        "commit": copy["commit"],
        "complete": bool(copy.get("complete")) and not damaged,
        "damaged": sorted(damaged),
        "bytes": copy.get("bytes", 0),
        "partial_bytes": copy.get("partial_bytes", 0),
    }


def _differing(store: str, copy: dict[str, t.Any]) -> list[str]:
    """Imported when it is needed: every run reads the state, and few read all bytes."""
    from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import Copy, verify

    problems = verify(Copy.of(store, copy["model"], copy["commit"])).problems
    return [problem.path for problem in problems if "is not in the manifest" not in problem.text]
