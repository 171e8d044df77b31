#!/usr/bin/python
# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Install a set of files as one change
version_added: 0.1.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Brings files, directories and symbolic links to their wanted state, all as one change.
  - When anything differs, the whole set is first written to a private candidate tree and shown to
    O(validate). Only a set that passes is installed.
  - Then come the directories, the files, the links and last the removals. Every file is written
    beside its place, made durable, given its mode and owner, and renamed into place; links are
    switched by a rename. Nobody ever sees half of a file or a link to nowhere.
  - When a step fails, what had been changed before it is put back, and the error names the path.
    Directories that were removed are not put back; they are removed after everything else.
options:
  files:
    description: The files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Absolute path. Its directory must exist or be listed in O(directories).
          - A symbolic link at this path is replaced by the file; a directory is an error.
        type: str
        required: true
      content:
        description:
          - The text of the file. It is written as UTF-8, byte for byte, with no newline added.
          - Anything but a string is refused, so that a structure never ends up in a file in the
            notation of Python. Use filters such as P(ansible.builtin.to_json#filter).
        type: raw
        default: ""
      mode:
        description: Permissions as octal digits with a leading zero, in quotes.
        type: str
        default: '0644'
      owner:
        description: Name or number of the user.
        type: str
        default: root
      group:
        description: Name or number of the group.
        type: str
        default: root
      state:
        description: V(absent) removes the file.
        type: str
        choices: [present, absent]
        default: present
      sensitive:
        description:
          - Show no content of this file in the diff, whether it is written or removed.
          - A file that only its owner can read on the host is never shown, removed or replaced.
        type: bool
        default: false
  directories:
    description: The directories. Missing parents are created with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      mode:
        description: Permissions as octal digits with a leading zero, in quotes.
        type: str
        default: '0755'
      owner:
        description: Name or number of the user.
        type: str
        default: root
      group:
        description: Name or number of the group.
        type: str
        default: root
      state:
        description:
          - V(absent) removes the directory with all it holds.
          - Directories less than two levels below the root are never removed.
        type: str
        choices: [present, absent]
        default: present
  links:
    description: The symbolic links.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the link. Anything but a link at this path is an error.
        type: str
        required: true
      target:
        description:
          - Where the link points to, absolute or relative to the link. It need not exist.
          - Required unless O(links[].state=absent).
        type: str
      state:
        description: V(absent) removes the link, not what it points to.
        type: str
        choices: [present, absent]
        default: present
  exclusive:
    description:
      - Directories in which every regular file that is not a file of this set is removed.
      - Their subdirectories, links and special files stay.
    type: list
    elements: str
    default: []
  validate:
    description:
      - Command that judges the set before it is installed, split as a POSIX shell would, but
        run without a shell. V(%s) stands for the root of the candidate tree.
      - The tree holds the present files and directories of the set under their absolute paths, the
        files with their final modes, and nothing else of the host. It belongs to the user of the
        task, and only this user can enter it.
      - Absolute paths inside of the files still lead to the host, not into the tree.
      - It runs when something would change, in check mode too. In check mode a program that the
        host does not have yet is a warning.
    type: str
  apply:
    description:
      - Commands that put the set in force, each split as a POSIX shell would and run without a
        shell, in order, when anything changed.
      - A run that was killed between the change and the end of these commands is completed by the
        next one, although it finds nothing to change. A reboot makes that unnecessary.
    type: list
    elements: str
    default: []
  sensitive:
    description:
      - Show no content in the diff, and no output of O(validate) in an error.
      - The task needs C(no_log) as well, as its arguments are shown by other means.
    type: bool
    default: false
attributes:
  check_mode:
    description: Predicts the change without making it.
    support: full
    details:
      - Users, groups and directories that an earlier task would create may be missing.
  diff_mode:
    description: Shows what changed, or would change in check mode.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
seealso:
  - module: ansible.builtin.copy
  - module: ansible.builtin.template
"""

EXAMPLES = r"""
- name: Install a release and switch to it
  baremetal.vllm.file_set:
    directories:
      - path: /var/lib/vllm/gpt-oss-20b/releases/3f9c
    files:
      - path: /var/lib/vllm/gpt-oss-20b/releases/3f9c/config.yaml
        content: "{{ config | to_nice_yaml }}"
      - path: /var/lib/vllm/gpt-oss-20b/releases/3f9c/run
        content: "{{ lookup('ansible.builtin.template', 'run.j2') }}"
        mode: '0755'
    links:
      - path: /var/lib/vllm/gpt-oss-20b/current
        target: releases/3f9c

- name: Install the configuration of nginx if nginx likes it
  baremetal.vllm.file_set:
    files:
      - path: /etc/nginx/nginx.conf
        content: "{{ lookup('ansible.builtin.template', 'nginx.conf.j2') }}"
      - path: /etc/nginx/conf.d/edge.conf
        content: "{{ lookup('ansible.builtin.template', 'edge.conf.j2') }}"
    exclusive:
      - /etc/nginx/conf.d
    validate: nginx -t -q -p %s/etc/nginx -c %s/etc/nginx/nginx.conf
  notify: Reload nginx

- name: Install the secrets of an instance
  baremetal.vllm.file_set:
    files:
      - path: /etc/vllm/gpt-oss-20b.secrets
        content: "VLLM_API_KEY={{ vllm_api_key }}\n"
        mode: '0600'
    sensitive: true
  no_log: true

- name: Remove an instance
  baremetal.vllm.file_set:
    files:
      - path: /etc/vllm/gpt-oss-20b.secrets
        state: absent
        sensitive: true
    directories:
      - path: /var/lib/vllm/gpt-oss-20b
        state: absent
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode, in the order of the changes.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/nginx.conf]
validated:
  description: Whether O(validate) was run. It is not when nothing differs.
  returned: success
  type: bool
diff:
  description: The changes of contents, and those of modes, owners and links as prepared text.
  returned: in diff mode
  type: list
  elements: dict
cmd:
  description: The validation command.
  returned: when the validation failed
  type: list
  elements: str
rc:
  description: Its exit status.
  returned: when the validation failed
  type: int
stdout:
  description: Its output.
  returned: when the validation failed and O(sensitive=false)
  type: str
stderr:
  description: Its errors.
  returned: when the validation failed and O(sensitive=false)
  type: str
"""

import contextlib
import hashlib
import os
import shlex
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set as file_set


class CommandFailed(file_set.FileSetError):
    """The validation command refused the set, or a command of `apply` failed."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.details = details


class PendingMark:
    """A file that says that a set was written and not yet put in force.

    It lies in /run: after a reboot everything is in force anyway.
    """

    directory = "/run/baremetal-vllm"

    def __init__(self, paths: t.Sequence[str], commands: t.Sequence[t.Sequence[str]]) -> None:
        identity = hashlib.sha256(repr((sorted(paths), commands)).encode()).hexdigest()[:16]
        self._path = os.path.join(self.directory, f"{identity}.pending")

    def is_set(self) -> bool:
        return os.path.exists(self._path)

    def set(self) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with open(self._path, "w", encoding="utf-8"):
            pass

    def clear(self) -> None:
        os.unlink(self._path)
        with contextlib.suppress(OSError):  # others are pending
            os.rmdir(self.directory)


class QuietModule(AnsibleModule):  # type: ignore[misc]
    """An AnsibleModule that keeps contents of files out of the system log and of its answer."""

    def _log_invocation(self) -> None:
        paths = [entry["path"] for entry in self.params["files"] or []]
        self.log(f"Invoked for {len(paths)} files: {' '.join(paths)}")

    def forget_contents(self) -> None:
        """Put sizes in place of contents in the arguments that Ansible returns at -vvv."""
        for entry in self.params["files"]:
            entry["content"] = f"({len(str(entry['content']))} characters)"


class FileSetInstaller:
    def __init__(self, module: QuietModule) -> None:
        self._module = module
        self._sensitive: bool = module.params["sensitive"]
        try:
            self._wanted = file_set.from_parameters(module.params)
        finally:
            module.forget_contents()
        self._command = split_command(module.params["validate"])
        self._apply = [shlex.split(command) for command in module.params["apply"]]
        self._mark = PendingMark([entry["path"] for entry in module.params["files"]], self._apply)

    def run(self) -> dict[str, t.Any]:
        """Bring the host to the wanted state and return the module's result."""
        check_mode: bool = self._module.check_mode
        changes = file_set.plan(self._wanted, predict=check_mode)
        validated = bool(changes) and bool(self._command) and self._validate()
        unfinished = bool(self._apply) and (bool(changes) or self._mark.is_set())
        if not check_mode:
            if unfinished:
                self._mark.set()
            file_set.install(changes)
            if unfinished:
                self._run_apply()
                self._mark.clear()
        result: dict[str, t.Any] = {
            "changed": bool(changes) or unfinished,
            "changed_paths": [change.path for change in changes],
            "validated": validated,
        }
        if self._module._diff:
            result["diff"] = file_set.diff(changes, self._sensitive)
        return result

    def _run_apply(self) -> None:
        for command in self._apply:
            try:
                rc, stdout, stderr = self._module.run_command(command, handle_exceptions=False)
            except OSError as error:
                raise CommandFailed(
                    f"apply: {shlex.join(command)} cannot be run after the files were written:"
                    f" {error.strerror}; install {command[0]}, the next run tries it again.",
                    cmd=command,
                ) from error
            if rc != 0:
                raise CommandFailed(
                    f"apply: {shlex.join(command)} failed with exit status {rc} after the files"
                    " were written; the next run tries it again; it said:"
                    f" {(stderr or stdout).strip()}",
                    cmd=command,
                    rc=rc,
                )

    def _validate(self) -> bool:
        """Run the validation command on a candidate tree. Returns whether it could be run."""
        program, *arguments = self._command
        executable = self._module.get_bin_path(program)
        if executable is None:
            if not self._module.check_mode:
                raise file_set.FileSetError(
                    f"validate: this host has no program {program}: install it before this task."
                )
            self._module.warn(f"Nothing was validated, this host has no {program} yet.")
            return False
        with file_set.candidate_tree(self._wanted, self._module.tmpdir) as root:
            command = [executable, *(argument.replace("%s", root) for argument in arguments)]
            rc, stdout, stderr = self._module.run_command(command, errors="surrogate_then_replace")
        if rc == 0:
            return True
        said = "not shown, the set is sensitive" if self._sensitive else (stderr or stdout).strip()
        output = {} if self._sensitive else {"stdout": stdout, "stderr": stderr}
        raise CommandFailed(
            f"validate: {program} refused the set with exit status {rc}, nothing was changed on the"
            f" host; it said: {said}",
            cmd=self._command,
            rc=rc,
            **output,
        )


def split_command(command: str | None) -> list[str]:
    """Split the validation command; empty for none. Raises FileSetError for one without %s."""
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise file_set.FileSetError(f"validate: {command!r} cannot be split: {error}.") from error
    if not any("%s" in word for word in words[1:]):
        raise file_set.FileSetError(
            f"validate: {command!r} does not look at the set: %s must stand for its root."
        )
    return words


def argument_spec() -> dict[str, t.Any]:
    path = {"type": "str", "required": True}
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    owner = {"type": "str", "default": "root"}
    file = {
        "path": path,
        "content": {"type": "raw", "default": ""},
        "mode": {"type": "str", "default": "0644"},
        "owner": owner,
        "group": owner,
        "state": state,
        "sensitive": {"type": "bool", "default": False},
    }
    directory = {
        "path": path,
        "mode": {"type": "str", "default": "0755"},
        "owner": owner,
        "group": owner,
        "state": state,
    }
    link = {"path": path, "target": {"type": "str"}, "state": state}
    return {
        "files": {"type": "list", "elements": "dict", "default": [], "options": file},
        "directories": {"type": "list", "elements": "dict", "default": [], "options": directory},
        "links": {"type": "list", "elements": "dict", "default": [], "options": link},
        "exclusive": {"type": "list", "elements": "str", "default": []},
        "validate": {"type": "str"},
        "apply": {"type": "list", "elements": "str", "default": []},
        "sensitive": {"type": "bool", "default": False},
    }


def main() -> None:
    module = QuietModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = FileSetInstaller(module).run()
    except CommandFailed as error:
        module.fail_json(msg=str(error), **error.details)
    except file_set.FileSetError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
