# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Bring a set of files, directories and links onto a host as one change.

Three steps, each a function: `plan` compares the wanted set with the host and changes nothing,
`candidate_tree` writes the set somewhere private so that it can be validated, and `install`
carries the plan out, or puts back what it had changed when a step fails.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import re
import shutil
import stat
import tempfile
import typing as t
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._accounts import (
    group_name,
    user_name,
)

# A killed run may leave files of this suffix behind; the next run of the same set replaces them.
_TEMPORARY_SUFFIX = ".file_set"
_MODE = re.compile(r"0[0-7]{3,4}")
# What Ansible itself compares at most for a diff (MAX_FILE_SIZE_FOR_DIFF), in bytes.
_DIFF_LIMIT = 104448


class FileSetError(Exception):
    """A sentence for the operator; the host is as it was unless the sentence says otherwise."""


@dataclass(frozen=True)
class File:
    """A regular file as it shall be; `content` is None where it shall not be."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    sensitive: bool = False


@dataclass(frozen=True)
class Directory:
    """A directory as it shall be. Owner and group None: as the operating system makes it."""

    path: str
    present: bool = True
    mode: int = 0o755
    owner: str | None = "root"
    group: str | None = "root"


@dataclass(frozen=True)
class Link:
    """A symbolic link as it shall be; `target` is None where it shall not be."""

    path: str
    target: str | None


@dataclass(frozen=True)
class FileSet:
    """Everything that is installed together."""

    files: tuple[File, ...] = ()
    directories: tuple[Directory, ...] = ()
    links: tuple[Link, ...] = ()
    exclusive: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """What is at a path now. `content` is set for regular files, `target` for links."""

    kind: str  # file, directory, link, other
    mode: int
    uid: int
    gid: int
    content: bytes | None = None
    target: str | None = None


@dataclass(frozen=True)
class Change:
    """One path that is not as wanted. `wanted` is None where the path shall go away."""

    path: str
    wanted: File | Directory | Link | None
    before: Snapshot | None
    sensitive: bool = False  # as the file is declared that shall be there, or go away

    @property
    def removes(self) -> str | None:
        """Return the kind of what is removed, or None."""
        return self.before.kind if self.wanted is None and self.before else None

    @property
    def hides_content(self) -> bool:
        """Whether a diff must not show it: declared so, or only its owner can read it now."""
        private = (
            self.before is not None and self.before.kind == "file" and not self.before.mode & 0o077
        )
        return self.sensitive or private


# -- reading the parameters --------------------------------------------------------------------


def from_parameters(parameters: t.Mapping[str, t.Any]) -> FileSet:
    """Turn the module's parameters into a FileSet. Raises FileSetError for what makes no sense."""
    files = tuple(_file(entry) for entry in parameters["files"])
    directories = tuple(_directory(entry) for entry in parameters["directories"])
    links = tuple(_link(entry) for entry in parameters["links"])
    exclusive = tuple(_checked_path(path, "exclusive") for path in parameters["exclusive"])
    _reject_contradictions(files, directories, links)
    return FileSet(files, directories, links, exclusive)


def _file(entry: t.Mapping[str, t.Any]) -> File:
    path = _checked_path(entry["path"], "files")
    content = entry["content"]
    if entry["state"] == "absent":
        return File(path, None, sensitive=bool(entry.get("sensitive")))
    if not isinstance(content, str):
        raise FileSetError(
            f"files: the content of {path} is of type {type(content).__name__}, where text is"
            " wanted: give a string, and turn structures into one with to_json or to_nice_yaml."
        )
    encoded = content.encode("utf-8", "surrogateescape")
    return File(
        path, encoded, _mode(entry), entry["owner"], entry["group"], bool(entry.get("sensitive"))
    )


def _directory(entry: t.Mapping[str, t.Any]) -> Directory:
    path = _checked_path(entry["path"], "directories")
    if entry["state"] == "absent":
        if path.count("/") < 2:
            raise FileSetError(
                f"directories: {path} is not removed, it is too near to the root of the host:"
                " only directories at least two levels deep are."
            )
        return Directory(path, present=False)
    return Directory(path, True, _mode(entry), entry["owner"], entry["group"])


def _link(entry: t.Mapping[str, t.Any]) -> Link:
    path = _checked_path(entry["path"], "links")
    if entry["state"] == "absent":
        return Link(path, None)
    if not entry["target"]:
        raise FileSetError(f"links: {path} has no target: say where it shall point to.")
    return Link(path, entry["target"])


def _checked_path(path: str, parameter: str) -> str:
    if not path.startswith("/") or os.path.normpath(path) != path or "\0" in path:
        raise FileSetError(
            f"{parameter}: {path!r} is not a plain absolute path: it must start with one slash,"
            " not end with one, and have no '.', '..' or empty part."
        )
    return path


def _mode(entry: t.Mapping[str, t.Any]) -> int:
    if not _MODE.fullmatch(entry["mode"]):
        raise FileSetError(
            f"The mode of {entry['path']} is {entry['mode']!r}, where octal digits with a leading"
            " zero are wanted, in quotes: for instance '0644'."
        )
    return int(entry["mode"], 8)


def _reject_contradictions(
    files: t.Sequence[File], directories: t.Sequence[Directory], links: t.Sequence[Link]
) -> None:
    entries: list[File | Directory | Link] = [*files, *directories, *links]
    seen: set[str] = set()
    for entry in entries:
        if entry.path in seen:
            raise FileSetError(f"{entry.path} is given twice: leave one of the two.")
        seen.add(entry.path)
    kept = [entry.path for entry in files if entry.content is not None]
    kept += [entry.path for entry in directories if entry.present]
    kept += [entry.path for entry in links if entry.target is not None]
    for gone in (entry.path for entry in directories if not entry.present):
        for path in kept:
            if path.startswith(f"{gone}/"):
                raise FileSetError(f"{gone} shall be absent and {path} below it present: drop one.")


# -- comparing with the host -------------------------------------------------------------------


def snapshot(path: str, follow: bool = False) -> Snapshot | None:
    """Return what is at `path`, None for nothing. `follow` looks behind a symbolic link."""
    try:
        status = os.stat(path) if follow else os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    attributes = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return Snapshot("link", *attributes, target=os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return Snapshot("directory", *attributes)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return Snapshot("file", *attributes, content=file.read())
    return Snapshot("other", *attributes)


@functools.cache
def user_id(name: str) -> int | None:
    """Return the id of a user given by name or number, None where no such user exists."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


@functools.cache
def group_id(name: str) -> int | None:
    """Return the id of a group given by name or number, None where no such group exists."""
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def plan(wanted: FileSet, predict: bool = False) -> list[Change]:
    """Return what must change, in the order in which `install` does it.

    `predict` is for check mode: users, groups and parent directories that do not exist yet are
    taken as coming from an earlier step. Otherwise they are refused here, before any change.
    Raises FileSetError when the host holds something of another kind at a wanted path.
    """
    try:
        directories = _with_parents([entry for entry in wanted.directories if entry.present])
        changes = [
            *(_planned_directory(entry) for entry in directories),
            *(_planned_file(entry) for entry in wanted.files if entry.content is not None),
            *(_planned_link(entry) for entry in wanted.links if entry.target is not None),
            *_planned_removals(wanted),
        ]
    except OSError as error:
        raise FileSetError(f"{error.filename} cannot be read: {error.strerror}.") from error
    needed = [change for change in changes if change is not None]
    if not predict:
        _reject_unknown_owners(needed)
        _reject_missing_parents(needed)
    return needed


def _with_parents(entries: t.Sequence[Directory]) -> list[Directory]:
    """Add the missing parents of directories and sort parents before children."""
    by_path = {entry.path: entry for entry in entries}
    for entry in entries:
        parent = os.path.dirname(entry.path)
        while parent not in by_path and not os.path.isdir(parent):
            by_path[parent] = Directory(parent, owner=None, group=None)
            parent = os.path.dirname(parent)
    return [by_path[path] for path in sorted(by_path)]


def _planned_directory(entry: Directory) -> Change | None:
    before = snapshot(entry.path, follow=True)
    _reject_other_kind(entry.path, before, ("directory",), "a directory")
    if before is None and os.path.islink(entry.path):
        raise FileSetError(f"{entry.path} is a link to nowhere, a directory is wanted: remove it.")
    same = before is not None and _same_attributes(entry, before)
    return None if same else Change(entry.path, entry, before)


def _planned_file(entry: File) -> Change | None:
    before = snapshot(entry.path)
    _reject_other_kind(entry.path, before, ("file", "link"), "a file")
    same = (
        before is not None and before.content == entry.content and _same_attributes(entry, before)
    )
    return None if same else Change(entry.path, entry, before, entry.sensitive)


def _planned_link(entry: Link) -> Change | None:
    before = snapshot(entry.path)
    _reject_other_kind(entry.path, before, ("link",), "a link")
    same = before is not None and before.target == entry.target
    return None if same else Change(entry.path, entry, before)


def _planned_removals(wanted: FileSet) -> t.Iterator[Change]:
    """Yield the removals: single files and links first, whole directories last."""
    paths: dict[str, tuple[str, ...]] = {}
    paths.update({entry.path: ("file", "link") for entry in wanted.files if entry.content is None})
    paths.update({entry.path: ("link",) for entry in wanted.links if entry.target is None})
    kept = {entry.path for entry in wanted.files if entry.content is not None}
    sensitive = {entry.path for entry in wanted.files if entry.sensitive}
    gone = [entry.path for entry in wanted.directories if not entry.present]
    for directory in wanted.exclusive:
        if os.path.isdir(directory) and directory not in gone:
            files = (
                entry for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)
            )
            paths.update({entry.path: ("file",) for entry in files if entry.path not in kept})
    for path, kinds in sorted(paths.items()):
        before = snapshot(path)
        _reject_other_kind(path, before, kinds, " or ".join(kinds))
        if before is not None:
            yield Change(path, None, before, path in sensitive)
    for path in sorted(gone):
        before = snapshot(path)
        _reject_other_kind(path, before, ("directory",), "a directory")
        if before is not None:
            yield Change(path, None, before)


def _reject_other_kind(
    path: str, before: Snapshot | None, allowed: t.Sequence[str], wanted: str
) -> None:
    if before is not None and before.kind not in allowed:
        found = {"file": "a regular file", "other": "a special file"}.get(
            before.kind, f"a {before.kind}"
        )
        raise FileSetError(f"{path} is {found} on the host, not {wanted}: remove it by hand first.")


def _same_attributes(entry: File | Directory, before: Snapshot) -> bool:
    same_owner = entry.owner is None or user_id(entry.owner) == before.uid
    same_group = entry.group is None or group_id(entry.group) == before.gid
    return entry.mode == before.mode and same_owner and same_group


def _reject_unknown_owners(changes: t.Sequence[Change]) -> None:
    for change in changes:
        if not isinstance(change.wanted, (File, Directory)):
            continue
        for name, kind, find in (
            (change.wanted.owner, "user", user_id),
            (change.wanted.group, "group", group_id),
        ):
            if name is not None and find(name) is None:
                raise FileSetError(
                    f"{change.path} shall belong to the {kind} {name!r}, which this host does not"
                    f" have: create the {kind} first, or give another."
                )


def _reject_missing_parents(changes: t.Sequence[Change]) -> None:
    coming = {change.path for change in changes if isinstance(change.wanted, Directory)}
    for change in changes:
        parent = os.path.dirname(change.path)
        if change.wanted is not None and parent not in coming and not os.path.isdir(parent):
            raise FileSetError(
                f"{change.path} cannot be installed, {parent} is no directory on this host: list it"
                " under directories."
            )


# -- telling it ----------------------------------------------------------------------------------


def diff(changes: t.Sequence[Change], sensitive: bool = False) -> list[dict[str, str | int]]:
    """Return the changes in the form of Ansible's diff.

    Contents are left out when `sensitive`, and where the change itself hides them.
    """
    entries: list[dict[str, str | int]] = []
    for change in changes:
        before = _text(change.before)
        after = _text(change.wanted)
        if before is not None or after is not None:
            if sensitive or change.hides_content:
                if before != after:
                    entries.append({"prepared": f"{change.path}: content changed (not shown)\n"})
            elif before != after:
                entries.append(_content_diff(change, before or "", after or ""))
        attributes = _attribute_diff(change)
        if attributes:
            entries.append({"prepared": f"{change.path}: {attributes}\n"})
    return entries


def _content_diff(change: Change, before: str, after: str) -> dict[str, str | int]:
    if len(before) > _DIFF_LIMIT:
        return {"dst_larger": _DIFF_LIMIT}
    if len(after) > _DIFF_LIMIT:
        return {"src_larger": _DIFF_LIMIT}
    return {
        "before_header": change.path if change.before else f"{change.path} (absent)",
        "after_header": change.path if change.wanted else f"{change.path} (absent)",
        "before": before,
        "after": after,
    }


def _text(thing: Snapshot | File | Directory | Link | None) -> str | None:
    """Return the content of a file as text, None for everything else."""
    content = thing.content if isinstance(thing, (Snapshot, File)) else None
    return None if content is None else content.decode("utf-8", "replace")


def _attribute_diff(change: Change) -> str:
    wanted, before = change.wanted, change.before
    if wanted is None:
        if change.removes == "directory":
            return "directory removed with all it holds"
        return f"link to {before.target} removed" if before and before.target else "removed"
    if isinstance(wanted, Link):
        return f"link to {before.target if before else 'nothing'} -> link to {wanted.target}"
    if before is None:
        owner = f", {wanted.owner}:{wanted.group}" if wanted.owner is not None else ""
        kind = "directory" if isinstance(wanted, Directory) else "file"
        return f"{kind} created, mode {wanted.mode:04o}{owner}"
    parts = []
    if before.kind == "link":
        parts.append(f"link to {before.target} replaced by a file")
    elif before.mode != wanted.mode:
        parts.append(f"mode {before.mode:04o} -> {wanted.mode:04o}")
    if wanted.owner is not None and user_id(wanted.owner) != before.uid:
        parts.append(f"owner {user_name(before.uid)} -> {wanted.owner}")
    if wanted.group is not None and group_id(wanted.group) != before.gid:
        parts.append(f"group {group_name(before.gid)} -> {wanted.group}")
    return ", ".join(parts)


# -- validating it -------------------------------------------------------------------------------


@contextlib.contextmanager
def candidate_tree(wanted: FileSet, parent: str | None = None) -> t.Iterator[str]:
    """Write the present directories and files of the set below a private directory (mode 0700).

    Yields the root of the tree, which mirrors the absolute paths; it is removed in any case.
    """
    root = tempfile.mkdtemp(prefix="file_set-", dir=parent)
    try:
        for directory in wanted.directories:
            if directory.present:
                os.makedirs(root + directory.path, exist_ok=True)
        for file in wanted.files:
            if file.content is None:
                continue
            os.makedirs(os.path.dirname(root + file.path), exist_ok=True)
            with open(root + file.path, "xb") as output:
                os.fchmod(output.fileno(), file.mode)
                output.write(file.content)
        yield root
    except OSError as error:
        raise FileSetError(
            f"The set cannot be written for validation to {error.filename}: {error.strerror}."
        ) from error
    finally:
        shutil.rmtree(root, ignore_errors=True)


# -- doing it ------------------------------------------------------------------------------------


def install(changes: t.Sequence[Change]) -> None:
    """Carry out the plan: directories, files, links, removals, each durable before the next.

    All files are written beside their places before the first is put there. Raises FileSetError
    that names the path which failed; what was changed before it has been put back then, except
    for directories that were removed, which come last for this reason.
    """
    installation = _Installation()
    try:
        installation.run(changes)
    except OSError as error:
        raise FileSetError(installation.put_back(error)) from error
    finally:
        installation.remove_temporaries()


@dataclass
class _Installation:
    """The state of one installation: where it is, and the way back."""

    at: str = ""
    done: list[Change] = field(default_factory=list)
    temporaries: set[str] = field(default_factory=set)
    unsynced: set[str] = field(default_factory=set)

    def run(self, changes: t.Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change.wanted, Directory):
                self._make_directory(change, change.wanted)
        staged: list[tuple[Change, str]] = []
        for change in changes:
            if isinstance(change.wanted, File):
                self.at = change.path
                staged.append((change, self._stage(change.wanted)))
        for change, temporary in staged:
            self.at = change.path
            self._rename(temporary, change.path)
            self.done.append(change)
        self._sync()
        for change in changes:
            if isinstance(change.wanted, Link) and change.wanted.target is not None:
                self.at = change.path
                self._switch_link(change.path, change.wanted.target)
                self.done.append(change)
        self._sync()
        for change in changes:
            if change.wanted is None:
                self._remove(change)
        self._sync()

    def put_back(self, failure: OSError) -> str:
        """Undo what was done, the latest first, and return the sentence about all of it."""
        lost = []
        for change in reversed(self.done):
            try:
                self._restore(change)
            except OSError as error:
                lost.append(f"{change.path} ({error.strerror})")
        with contextlib.suppress(OSError):
            self._sync()
        sentence = f"{self.at} cannot be changed: {failure.strerror}."
        if lost:
            return f"{sentence} These could not be put back, mend them by hand: {', '.join(lost)}."
        if not self.done:
            return f"{sentence} Nothing was changed before it."
        paths = ", ".join(change.path for change in self.done)
        return f"{sentence} What had been changed before it was put back: {paths}."

    def remove_temporaries(self) -> None:
        for path in self.temporaries:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _make_directory(self, change: Change, wanted: Directory) -> None:
        self.at = change.path
        if change.before is None:
            os.mkdir(change.path, 0o700)
            self.unsynced.add(os.path.dirname(change.path))
        self.done.append(change)
        uid = -1 if wanted.owner is None else t.cast(int, user_id(wanted.owner))
        gid = -1 if wanted.group is None else t.cast(int, group_id(wanted.group))
        self._set_attributes(change.path, wanted.mode, uid, gid)

    def _set_attributes(self, path: str, mode: int, uid: int, gid: int) -> None:
        os.chown(path, uid, gid)
        os.chmod(path, mode)  # after chown, which clears the set-id bits
        self.unsynced.add(path)

    def _stage(self, wanted: File) -> str:
        uid = t.cast(int, user_id(wanted.owner))
        gid = t.cast(int, group_id(wanted.group))
        return self._write(wanted.path, t.cast(bytes, wanted.content), wanted.mode, uid, gid)

    def _write(self, path: str, content: bytes, mode: int, uid: int, gid: int) -> str:
        """Write a finished, durable file beside `path` and return its name."""
        temporary = self._temporary(path)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        return temporary

    def _switch_link(self, path: str, target: str) -> None:
        temporary = self._temporary(path)
        os.symlink(target, temporary)
        self._rename(temporary, path)

    def _temporary(self, path: str) -> str:
        directory, name = os.path.split(path)
        temporary = os.path.join(directory, f".{name}{_TEMPORARY_SUFFIX}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        self.temporaries.add(temporary)
        return temporary

    def _rename(self, temporary: str, path: str) -> None:
        os.rename(temporary, path)
        self.temporaries.discard(temporary)
        self.unsynced.add(os.path.dirname(path))

    def _remove(self, change: Change) -> None:
        self.at = change.path
        if change.removes == "directory":
            shutil.rmtree(change.path)
        else:
            os.unlink(change.path)
            self.done.append(change)
        self.unsynced.add(os.path.dirname(change.path))

    def _restore(self, change: Change) -> None:
        before, path = change.before, change.path
        if before is None:
            if isinstance(change.wanted, Directory):
                os.rmdir(path)
            else:
                os.unlink(path)
            self.unsynced.add(os.path.dirname(path))
        elif before.content is not None:
            temporary = self._write(path, before.content, before.mode, before.uid, before.gid)
            self._rename(temporary, path)
        elif before.target is not None:
            self._switch_link(path, before.target)
        else:
            self._set_attributes(path, before.mode, before.uid, before.gid)

    def _sync(self) -> None:
        """Make names durable: fsync of every directory that changed since the last call."""
        for path in sorted(self.unsynced):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self.unsynced.clear()
