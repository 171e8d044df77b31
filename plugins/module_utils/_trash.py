# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Removing what is large in two steps: a rename into `.trash` beside it, and deleting it there.

A run that is killed leaves nothing half removed under its name, and the next run finds the rest.
No symbolic link is followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil

TRASH = ".trash"


def is_directory(path: str) -> bool:
    """Whether there is a directory and not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def names_in(directory: str) -> list[str]:
    """Return the sorted names in a directory, none where there is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def throw(path: str) -> None:
    """Move `path` into the trash beside it."""
    trash = os.path.join(os.path.dirname(path), TRASH)
    with contextlib.suppress(FileExistsError):
        os.mkdir(trash, 0o700)
    # Refuses a link, which would lead elsewhere.
    os.close(os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW))
    target = os.path.join(trash, os.path.basename(path))
    _delete(target)
    os.rename(path, target)


def thrown(parent: str) -> list[str]:
    """Return the paths in the trash of a directory."""
    trash = os.path.join(parent, TRASH)
    return [os.path.join(trash, name) for name in names_in(trash)] if is_directory(trash) else []


def empty(parent: str) -> None:
    """Delete the trash of a directory with all that is in it, where there is one."""
    trash = os.path.join(parent, TRASH)
    if is_directory(trash):
        shutil.rmtree(trash)


def _delete(path: str) -> None:
    if is_directory(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
