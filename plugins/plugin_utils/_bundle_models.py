# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Weights for a bundle: fetched on the controller into a store as hosts have it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.vllm.plugins.module_utils._model_download import Download
from ansible_collections.baremetal.vllm.plugins.module_utils._model_install import (
    install,
    locked,
    prepare,
    progress_of,
    too_little_space,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    PROGRESS_NAME,
    Copy,
    StoreError,
    damaged,
    read_manifest,
    verify,
)
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle import BundleError
from ansible_collections.baremetal.vllm.plugins.plugin_utils._transfer import Transfer

Status = Mapping[str, Any]


def fetch_model(
    listing: Mapping[str, Any],
    directory: Path,
    transfer: Transfer,
    token: str = "",
    workers: int = 8,
    tell: Callable[[Status], None] = lambda _status: None,
) -> dict[str, Any]:
    """Bring one model to ``<directory>/models``.

    What is there is read and compared first; what lacks or differs is fetched.

    :param listing: as the module model_source returns it.
    :param directory: the bundle.
    :param token: for the source, and for nobody whom it redirects to.
    :param tell: is given a status now and then: ``phase``, ``current_bytes``, ``total_bytes``,
        ``bytes_per_second``, ``files``, ``files_done``, ``elapsed`` (seconds).
    :returns: the listing with the sha256 of every file, and without addresses: some are signed.
    :raises BundleError: one sentence.
    """
    try:
        copy = Copy.of(str(directory / "models"), listing["model"], listing["commit"])
        with locked(copy):
            if paths := _lacking(copy, listing):
                _download(copy, listing, paths, transfer, token, workers, tell)
        os.unlink(os.path.join(copy.home, ".lock"))
    except StoreError as error:
        raise BundleError(str(error)) from None
    manifest = read_manifest(copy.manifest) or {"files": {}}
    files = [
        {
            "path": file["path"],
            "size": file["size"],
            "sha256": manifest["files"][file["path"]]["sha256"],
            "url": f"bundle:{file['path']}",
        }
        for file in listing["files"]
    ]
    return {**listing, "files": files}


def paths_of(listing: Mapping[str, Any]) -> dict[str, str]:
    """The files of a model in a bundle and their sha256; the manifest's has still to be read."""
    copy = Copy.of("models", listing["model"], listing["commit"])
    sums = {f"{copy.directory}/{file['path']}": file["sha256"] for file in listing["files"]}
    return {**sums, copy.manifest: ""}


def _lacking(copy: Copy, listing: Mapping[str, Any]) -> list[str]:
    """Every byte of a bundle is read before it travels."""
    lacking = set(damaged(copy, listing["files"]))
    if os.path.isdir(copy.directory) and read_manifest(copy.manifest):
        lacking |= {problem.path for problem in verify(copy).problems}
    return sorted(lacking & {file["path"] for file in listing["files"]})


def _download(
    copy: Copy,
    listing: Mapping[str, Any],
    paths: list[str],
    transfer: Transfer,
    token: str,
    workers: int,
    tell: Callable[[Status], None],
) -> None:
    files = [file for file in listing["files"] if file["path"] in paths]
    kept = prepare(copy, paths, (os.geteuid(), os.getegid()))
    if sentence := too_little_space(copy, sum(int(file["size"]) for file in files) - kept):
        raise BundleError(sentence)
    job = {
        "directory": copy.partial,
        "files": files,
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "origin": listing["source"].rstrip("/"),
        "workers": workers,
        "progress_path": os.path.join(copy.partial, PROGRESS_NAME),
    }
    result = run(Download(job, transfer.http_get), lambda: tell(progress_of(copy)))
    if not result["ok"]:
        named = f" of {result['file']}" if result.get("file") else ""
        raise BundleError(
            f"{copy} cannot be had from {listing['source']}: {result['message']}{named}; mend that"
            " and run again, what has arrived is kept."
        )
    install(copy, listing["source"], result["files"])


def run(download: Download, tick: Callable[[], None]) -> dict[str, Any]:
    """Run a download to its end, with a call of ``tick`` every second."""
    results: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: results.append(download.run()), daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(1.0)
            tick()
    except BaseException:
        download.stop()
        raise
    return results[0]
