# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Fetches a model into the store, or what a copy there lacks."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._image_pull import (
    ProgressFile,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._image_reference import (
    PullError,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_container import (
    Ended,
    FetchError,
    Request,
    Runner,
    docker_sentence,
    failure_sentence,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_install import (
    install,
    locked,
    prepare,
    progress_of,
    too_little_space,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    bytes_below,
    damaged,
    record_revision,
    verify,
)

_GIB = 2**30


class Fetcher:
    """Brings one copy of a model into the store, or what it lacks."""

    def __init__(self, request: Request, run: Runner) -> None:
        self._request = request
        self._run = run
        self._progress_file = ProgressFile(request.progress_file)
        self._sizes = {file["path"]: int(file["size"]) for file in request.files}

    def fetch(self, check_mode: bool = False) -> dict[str, t.Any]:
        """Return the module's result. Raises StoreError, FetchError and PullError."""
        start, request = time.monotonic(), self._request
        copy = request.copy
        paths = self._lacking()
        new_name = record_revision(copy, request.revision, write=False)
        to_come = sum(self._sizes[path] for path in paths)
        done = {"downloaded_bytes": 0, "resumed_bytes": 0}
        if (paths or new_name) and not check_mode:
            with locked(copy):
                # Another run may have fetched it since; to read it all once more takes too long.
                paths = paths if request.check == "full" else self._lacking()
                done = self._download(paths) if paths else done
                record_revision(copy, request.revision)
        kept = min(bytes_below(copy.partial), to_come) if paths and check_mode else 0
        return {
            "changed": bool(paths or new_name),
            "model": copy.model,
            "commit": copy.commit,
            "directory": copy.directory,
            "bytes": sum(self._sizes.values()),
            "fetched": paths,
            "missing_bytes": to_come - kept if check_mode else 0,
            "elapsed": round(time.monotonic() - start, 1),
            **done,
        }

    def _lacking(self) -> list[str]:
        copy = self._request.copy
        lacking = set(damaged(copy, self._request.files))
        whole = os.path.isdir(copy.directory) and len(lacking) < len(self._sizes)
        if self._request.check == "full" and whole:
            found = {problem.path for problem in verify(copy).problems}
            lacking |= found & set(self._sizes)
        return sorted(lacking)

    def _download(self, paths: list[str]) -> dict[str, int]:
        request = self._request
        remove = ("docker", "rm", "--force", request.container)
        self._run(remove)  # one that a killed run has left would write to the same files
        kept = prepare(request.copy, paths, request.user)
        total = sum(self._sizes[path] for path in paths)
        if sentence := too_little_space(request.copy, total - kept):
            raise FetchError(sentence)
        last: dict[str, t.Any] = {"files": len(paths), "files_done": 0, "total_bytes": total}
        last |= {"current_bytes": min(kept, total), "resumed_bytes": min(kept, total)}
        self._say(last, "downloading")
        phase = "failed"
        try:
            ended = self._run(
                request.arguments(),
                request.job(paths),
                request.timeout,
                lambda: self._say(progress_of(request.copy)),
                ("docker", "stop", "--time", "10", request.container),
            )
            result = _result(ended.output)
            last = progress_of(request.copy) or last
            if ended.late or result is None:
                self._run(remove)
            fetched = self._judge(ended, result, paths)
            install(request.copy, request.source, fetched)
            phase = "done"
        finally:
            with contextlib.suppress(PullError):  # must not hide why the download failed
                self._say(last, phase, final=True)
        numbers = result or {}
        return {name: int(numbers[name]) for name in ("downloaded_bytes", "resumed_bytes")}

    def _say(self, status: dict[str, t.Any], phase: str = "", final: bool = False) -> None:
        """Copy what the container says of itself to the progress file, as far as it makes sense."""
        numbers = ("files", "files_done", "current_bytes", "total_bytes", "resumed_bytes")
        content = {
            name: max(0, status.get(name) or 0)
            for name in (*numbers, "bytes_per_second", "elapsed")
            if isinstance(status.get(name) or 0, (int, float))
        }
        said = phase or status.get("phase")
        if said in ("downloading", "verifying", "done", "failed"):
            # The container has done its part before the files are where they are served.
            shown = "verifying" if said == "done" and not final else said
            self._progress_file.write({"phase": shown, **content}, final)

    def _judge(
        self, ended: Ended, result: dict[str, t.Any] | None, paths: list[str]
    ) -> dict[str, dict[str, t.Any]]:
        """Return what was fetched, {path: {size, sha256}}. Raises FetchError."""
        request = self._request
        if ended.late and not (result and result.get("ok")):
            raise FetchError(self._too_late())
        if result is None:
            raise FetchError(docker_sentence(request, ended))
        if not result.get("ok"):
            raise FetchError(failure_sentence(request, result))
        promised = {file["path"]: file.get("sha256") for file in request.files}
        fetched = {}
        for path in paths:
            sha256 = str((result["files"].get(path) or {}).get("sha256"))
            if not re.fullmatch(r"[0-9a-f]{64}", sha256) or promised[path] not in (None, sha256):
                raise FetchError(
                    f"The container of {request.image} did not verify {path} of {request.copy}; "
                    "use an image that vLLM has published."
                )
            fetched[path] = {"size": self._sizes[path], "sha256": sha256}
        return fetched

    def _too_late(self) -> str:
        request, status = self._request, progress_of(self._request.copy)
        current, total = (status.get(name) or 0 for name in ("current_bytes", "total_bytes"))
        return (
            f"{request.copy} was not fetched within {request.timeout} seconds "
            f"({current / _GIB:.2f} of {total / _GIB:.2f} GiB are there); raise timeout, or look "
            f"at the network between this host and {request.source}: what has arrived is kept, and "
            "the next run goes on from it."
        )


def _result(output: str) -> dict[str, t.Any] | None:
    """Return the download's result, which is its last line."""
    try:
        result = json.loads(output.strip().rpartition("\n")[2])
    except ValueError:
        return None
    return result if isinstance(result, dict) and "ok" in result else None
