#!/usr/bin/python
# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_source
short_description: Give a host one apt repository, its key checked, and nothing else of it
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Writes one deb822 file and one keyring, and removes every other entry of the same repository,
    as apt refuses to work at all when two entries of it name different keys.
  - The key is checked by its fingerprint, which is computed from the key, before anything is
    written. The host needs no gpg, no apt-key and no python3-debian.
  - It does not update the package lists.
options:
  name:
    description:
      - Name of the files, C(/etc/apt/sources.list.d/<name>.sources) and
        C(/etc/apt/keyrings/<name>.asc).
    type: str
    required: true
  uris:
    description:
      - Addresses of the repository. An entry elsewhere that has one of them and one of O(suites) is
        removed. V(http) and V(https) count as the same there.
    type: list
    elements: str
    default: []
  suites:
    description: Suites, or for a repository without them the path of the packages, mostly V(/).
    type: list
    elements: str
    default: []
  components:
    description: Components. None where O(suites) has a path.
    type: list
    elements: str
    default: []
  architectures:
    description: Architectures, such as V(amd64). Without one, those of the host.
    type: list
    elements: str
    default: []
  key_url:
    description:
      - Where the repository's public key is, armored or not. V(file:///path) is a file of the host.
      - It is fetched only where the keyring lacks a key of O(fingerprints) or has one that expired.
        If that fails while a key on the host will do, it is a warning.
      - The proxy is that of the environment, or else the one that apt is set to.
    type: str
  key:
    description: The public key itself, armored, in place of O(key_url).
    type: str
  fingerprints:
    description:
      - Fingerprints of the primary keys that are allowed, the whole of them. If what was fetched
        has any other, nothing is written.
      - The keyring holds these and no others, so a key that was replaced goes when its fingerprint
        leaves this list.
    type: list
    elements: str
    default: []
  replaces:
    description: What older set-ups may have left.
    type: dict
    suboptions:
      uris:
        description:
          - Parts of addresses. An enabled entry whose URI contains one is removed, whatever suite
            it has.
        type: list
        elements: str
        default: []
      keys:
        description:
          - Fingerprints of keys that are removed from C(/etc/apt/trusted.gpg) and
            C(/etc/apt/trusted.gpg.d), unless an entry of the same server without C(Signed-By) is
            left.
          - A keyring that only removed entries named is removed if it holds none but these keys and
            those of O(fingerprints).
        type: list
        elements: str
        default: []
  state:
    description: V(absent) removes the two files, and nothing else.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Predicts the change without making it.
    support: full
    details:
      - The key is fetched and checked in check mode too. If that fails it is a warning then, as an
        earlier task may have been going to make it possible.
  diff_mode:
    description: Shows what changed, or would change in check mode.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: debian
seealso:
  - module: ansible.builtin.deb822_repository
"""

EXAMPLES = r"""
- name: Use Docker's repository
  baremetal.vllm.apt_source:
    name: baremetal-vllm-docker
    uris: [https://download.docker.com/linux/debian]
    suites: [trixie]
    components: [stable]
    architectures: [amd64]
    key_url: https://download.docker.com/linux/debian/gpg
    fingerprints: [9DC858229FC7DD38854AE2D88D81803C0EBFCD88]
    replaces:
      uris: [download.docker.com/linux/]
      keys: [9DC858229FC7DD38854AE2D88D81803C0EBFCD88]

- name: Use a mirror of it, with the key from the inventory
  baremetal.vllm.apt_source:
    name: baremetal-vllm-docker
    uris: [https://mirror.example.org/docker]
    suites: [trixie]
    components: [stable]
    key: "{{ lookup('ansible.builtin.file', 'docker.asc') }}"
    fingerprints: [9DC858229FC7DD38854AE2D88D81803C0EBFCD88]
    replaces:
      uris: [download.docker.com/linux/]
"""

RETURN = r"""
changed_paths:
  description: The files that were changed, or would be in check mode, in the order of the changes.
  returned: success
  type: list
  elements: str
  sample: [/etc/apt/keyrings/baremetal-vllm-docker.asc]
removed:
  description: The entries, keys and keyrings of older set-ups that were removed.
  returned: success
  type: list
  elements: str
  sample: ['/etc/apt/sources.list.d/docker.list:1: https://download.docker.com/linux/debian trixie']
key_fetched:
  description: Whether the key was got anew, from O(key_url) or O(key).
  returned: success
  type: bool
diff:
  description: The changes of contents and those of modes and owners as prepared text.
  returned: in diff mode
  type: list
  elements: dict
"""

import os
import re
import time
import typing as t
import urllib.parse

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

from ansible_collections.baremetal.vllm.plugins.module_utils import _apt_source as apt
from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set as file_set

_KEY_LIMIT = 1024 * 1024  # bytes; the largest keyring of a vendor has about 30 KiB
_ATTEMPTS = 3
_TIMEOUT = 20  # seconds for one attempt


class AptSource:
    """Brings one repository to its state on one host."""

    def __init__(self, module: AnsibleModule, root: str = "/", owner: str = "root") -> None:
        self._module = module
        self._parameters: dict[str, t.Any] = module.params
        self._wanted = apt.repository(module.params)
        self._root = root.rstrip("/")
        self._owner = owner

    def run(self) -> dict[str, t.Any]:
        """Make the changes, or predict them, and return the module's result."""
        if self._parameters["state"] == "absent":
            steps, found, got = self._removal(), apt.Leftovers(), False
        else:
            steps, found, got = self._addition()
        changes: list[file_set.Change] = []
        for step in steps:
            planned = file_set.plan(step, predict=self._module.check_mode)
            if not self._module.check_mode:
                file_set.install(planned)
            changes += planned
        for warning in found.warnings:
            self._module.warn(warning)
        result: dict[str, t.Any] = {
            "changed": bool(changes),
            "changed_paths": [change.path[len(self._root) :] for change in changes],
            "removed": found.removed,
            "key_fetched": got,
        }
        if self._module._diff:
            result["diff"] = file_set.diff(changes)
        return result

    def _addition(self) -> tuple[list[file_set.FileSet], apt.Leftovers, bool]:
        """Return two steps: the entry comes when no other of the repository is left.

        A run that is killed between them leaves no entry, never two that contradict each other.
        """
        found = apt.Cleaner(self._wanted, self._root).find()
        keyring = self._keyring()
        found.warnings += keyring.warnings
        first = file_set.FileSet(
            files=(
                self._file(self._wanted.keyring_path, keyring.content),
                *(self._owned(file) for file in found.files),
            ),
            directories=(
                self._directory(apt.KEYRINGS_DIRECTORY),
                self._directory(apt.SOURCES_DIRECTORY),
            ),
        )
        text = apt.sources_text(self._wanted).encode("utf-8")
        second = file_set.FileSet(files=(self._file(self._wanted.sources_path, text),))
        return [first, second], found, keyring.got

    def _removal(self) -> list[file_set.FileSet]:
        """Return two steps: no entry is ever without its key."""
        paths = (self._wanted.sources_path, self._wanted.keyring_path)
        return [file_set.FileSet(files=(self._file(path, None),)) for path in paths]

    def _file(self, path: str, content: bytes | None) -> file_set.File:
        return file_set.File(self._root + path, content, 0o644, self._owner, self._owner)

    def _owned(self, file: file_set.File) -> file_set.File:
        return file_set.File(file.path, file.content, 0o644, self._owner, self._owner)

    def _directory(self, path: str) -> file_set.Directory:
        return file_set.Directory(self._root + path, True, 0o755, self._owner, self._owner)

    def _keyring(self) -> apt.Keyring:
        key, url = self._parameters["key"], self._parameters["key_url"]
        where = "key is" if key else f"key_url: {apt.without_login(url or '')} gave"
        before = file_set.snapshot(self._root + self._wanted.keyring_path, follow=True)

        def get() -> bytes:
            return key.encode("utf-8") if key else self._fetch(url)

        try:
            return apt.keyring(before.content if before else None, self._wanted, get, where)
        except apt.KeyUnavailableError as error:
            if not self._module.check_mode:
                raise
            return apt.Keyring(b"(the key, which is fetched then)\n", False, (str(error),))

    def _fetch(self, url: str | None) -> bytes:
        if not url:
            raise apt.AptSourceError(
                f"key_url is empty, and {self._root}{self._wanted.keyring_path} lacks the key"
                f" {' or '.join(self._wanted.fingerprints)}; give key_url or key."
            )
        if url.startswith("file:"):
            return _read(urllib.parse.urlsplit(url).path)
        self._use_proxy_of_apt(url)
        return fetch(self._module, url)

    def _use_proxy_of_apt(self, url: str) -> None:
        """Behind a proxy mostly apt alone knows of it; what the environment says goes first."""
        scheme = urllib.parse.urlsplit(url).scheme
        if any(os.environ.get(name) for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")):
            return
        try:
            rc, stdout, _stderr = self._module.run_command(
                ["apt-config", "dump"], handle_exceptions=False
            )
        except OSError:
            return
        proxy = proxy_of_apt(stdout, url) if rc == 0 else None
        if proxy:
            os.environ[f"{scheme}_proxy"] = proxy


def proxy_of_apt(configuration: str, url: str) -> str | None:
    """Return the proxy that apt would take for an address, None for none.

    :param configuration: what `apt-config dump` prints.

    apt takes that of http for https too where there is no other, apt-transport-https(1).
    """
    values = {
        name.lower(): value
        for name, value in re.findall(r'^(\S+) "(.*)";$', configuration, flags=re.MULTILINE)
    }
    address = urllib.parse.urlsplit(url)
    for scheme in dict.fromkeys((address.scheme, "http")):
        for name in (f"acquire::{scheme}::proxy::{address.hostname}", f"acquire::{scheme}::proxy"):
            value = values.get(name, "")
            if value:
                return None if value.upper() == "DIRECT" else value
    return None


def fetch(module: AnsibleModule, url: str) -> bytes:
    """Return what is at an address. Raises KeyUnavailableError for what does not answer in time."""
    said = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(attempt)
        response, information = fetch_url(module, url, timeout=_TIMEOUT)
        status = information["status"]
        if status == 200 and response is not None:
            try:
                content: bytes = response.read(_KEY_LIMIT)
            except OSError as error:
                said = str(error)
                continue
            return content
        said = information["msg"]
        if 400 <= status < 500:
            break
    raise apt.KeyUnavailableError(
        f"key_url: {apt.without_login(url)} cannot be fetched by the host ({said}). Let it reach"
        " that server, directly or through a proxy (https_proxy, or Acquire::https::Proxy of apt;"
        " https needs the package ca-certificates), or give the address of a mirror."
    )


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_KEY_LIMIT)
    except OSError as error:
        raise apt.KeyUnavailableError(
            f"key_url: {path} cannot be read on the host: {error.strerror}. Copy the key there."
        ) from error


def argument_spec() -> dict[str, t.Any]:
    words = {"type": "list", "elements": "str", "default": []}
    return {
        "name": {"type": "str", "required": True},
        "uris": words,
        "suites": words,
        "components": words,
        "architectures": words,
        "key_url": {"type": "str", "no_log": False},
        "key": {"type": "str", "no_log": False},  # a public one
        "fingerprints": words,
        "replaces": {
            "type": "dict",
            "options": {"uris": words, "keys": {**words, "no_log": False}},
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("key", "key_url")],
        supports_check_mode=True,
    )
    try:
        result = AptSource(module).run()
    except (apt.AptSourceError, file_set.FileSetError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
