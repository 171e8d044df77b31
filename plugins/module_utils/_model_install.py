# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Bringing a copy of a model into the store: room for a download, and what was downloaded.

What is cut off at any point leaves the store as it was, or with more in the partial copy: a
directory has its final name only when every file in it is verified and the manifest is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import time
import typing as t

from ansible_collections.baremetal.vllm.plugins.module_utils._model_store import (
    PROGRESS_NAME,
    Copy,
    StoreError,
    bytes_below,
    checked_path,
    read_manifest,
    regular_size,
    sync,
    write_json,
)

_GIB = 2**30
_MODE = 0o755
"""Of directories: engines run as other users."""


@contextlib.contextmanager
def locked(copy: Copy) -> t.Iterator[None]:
    """Keep other runs from the same model. Raises StoreError, which names the other one."""
    _make_directory(copy.home)
    path = os.path.join(copy.home, ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(descriptor, 200).decode("utf-8", "replace").strip()
            raise StoreError(
                f"Another run ({other or 'of which nothing is known'}) fetches {copy.model} on "
                "this host; wait for it, or end it, and run again."
            ) from None
        os.ftruncate(descriptor, 0)
        began = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        os.write(descriptor, f"process {os.getpid()}, since {began}\n".encode())
        yield
    finally:
        os.close(descriptor)


def prepare(copy: Copy, paths: t.Collection[str], user: tuple[int, int]) -> int:
    """Make the partial copy ready for a download of `paths` by `user` (uid and gid).

    What earlier downloads left of these files stays, all else in it goes. Return the bytes kept.
    """
    _make_directory(copy.partial)
    if os.path.isdir(copy.directory) and read_manifest(copy.manifest) is None:
        _adopt(copy, paths)
    wanted = set(paths) | {f"{path}.part" for path in paths}
    for name, found in _walk(copy.partial):
        if not stat.S_ISDIR(found.st_mode) and not (name in wanted and stat.S_ISREG(found.st_mode)):
            os.unlink(os.path.join(copy.partial, name))
    _give(copy.partial, user)
    for name, _found in _walk(copy.partial):
        _give(os.path.join(copy.partial, name), user)
    return bytes_below(copy.partial)


def _adopt(copy: Copy, paths: t.Iterable[str]) -> None:
    """Take the files of a directory without manifest for downloads that are yet to be verified."""
    for path in paths:
        source, part = os.path.join(copy.directory, path), os.path.join(copy.partial, path)
        known = max(regular_size(part), regular_size(f"{part}.part"))
        if regular_size(source) > known:
            _make_directory(os.path.dirname(part))
            os.replace(source, f"{part}.part")
    shutil.rmtree(copy.directory)


def too_little_space(copy: Copy, missing_bytes: int) -> str:
    """Return the sentence for a disk without room for so much more; empty if there is room."""
    free = os.statvfs(copy.partial)
    lacking = missing_bytes - free.f_bavail * free.f_frsize
    return disk_full(copy, lacking) if lacking > 0 else ""


def disk_full(copy: Copy, missing_bytes: int) -> str:
    """Return the sentence for a disk that is full."""
    return (
        f"The disk of {copy.store} is full while {copy} is fetched: {missing_bytes / _GIB:.2f} GiB "
        "more are needed there; free space and run again: what has arrived is kept, and the "
        "download goes on from it."
    )


def install(
    copy: Copy, source: str, fetched: t.Mapping[str, t.Mapping[str, t.Any]]
) -> dict[str, t.Any]:
    """Move the verified files of the partial copy to where they are served; return the manifest.

    `fetched` is {path: {size, sha256}} of all that was downloaded. A copy that is there already
    is repaired: file by file, so that no reader ever finds one missing. Raises StoreError.
    """
    _take_back(copy.partial, fetched)
    known = read_manifest(copy.manifest) if os.path.isdir(copy.directory) else None
    files = {path: {key: file[key] for key in ("size", "sha256")} for path, file in fetched.items()}
    if known is None:
        manifest = {"model": copy.model, "commit": copy.commit, "source": source, "files": files}
        write_json(copy.manifest, manifest)
        os.rename(copy.partial, copy.directory)
        sync(copy.home)
        return manifest
    for path in fetched:
        target = os.path.join(copy.directory, path)
        _make_directory(os.path.dirname(target))
        os.replace(os.path.join(copy.partial, path), target)
        sync(os.path.dirname(target))
    manifest = {**known, "files": {**known["files"], **files}}
    if manifest != known:
        write_json(copy.manifest, manifest)
    shutil.rmtree(copy.partial)
    return manifest


def _take_back(partial: str, fetched: t.Mapping[str, t.Mapping[str, t.Any]]) -> None:
    """Make the files those of this process's user, readable by all, and have them on the disk.

    A container wrote here, so nothing is followed that could lead elsewhere.
    """
    owner = (os.geteuid(), os.getegid())
    for name, found in _walk(partial):
        path = os.path.join(partial, name)
        if stat.S_ISDIR(found.st_mode):
            with contextlib.suppress(OSError):  # only an empty one goes
                os.rmdir(path)
            continue
        if name not in fetched or not stat.S_ISREG(found.st_mode):
            os.unlink(path)
            continue
        _give(path, owner)
        os.chmod(path, 0o644)
        sync(path)
    for name, _found in [*_walk(partial), ("", None)]:
        path = os.path.join(partial, name)
        if os.path.isdir(path):
            _give(path, owner)
            os.chmod(path, _MODE)
            sync(path)
    for name, file in fetched.items():
        size = regular_size(os.path.join(partial, checked_path(name)))
        if size != file["size"]:
            raise StoreError(
                f"{partial} has no {name} of {file['size']} bytes after the download; run again, "
                "and look at the disk."
            )


def _walk(directory: str) -> list[tuple[str, os.stat_result]]:
    """Return all below a directory, leaves first, with what lstat says; no link is followed."""
    found = []
    for parent, directories, names in os.walk(directory, topdown=False):
        for name in names + directories:
            path = os.path.join(parent, name)
            found.append((os.path.relpath(path, directory), os.lstat(path)))
    return found


def _give(path: str, owner: tuple[int, int]) -> None:
    found = os.lstat(path)
    if (found.st_uid, found.st_gid) != owner:
        os.chown(path, *owner, follow_symlinks=False)


def _make_directory(path: str) -> None:
    """Make a directory and those above it, 0755 whatever the umask; one that exists is left."""
    if os.path.isdir(path):
        return
    _make_directory(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, _MODE)


def progress_of(copy: Copy) -> dict[str, t.Any]:
    """Return what the download says of itself; empty while it has said nothing."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(os.path.join(copy.partial, PROGRESS_NAME), flags)
        with os.fdopen(descriptor, "rb") as file:
            content = json.loads(file.read(65536))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
