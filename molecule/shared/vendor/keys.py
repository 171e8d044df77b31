# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Keys that the test repositories are signed with: two for each vendor, made once."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

VENDORS = ("cuda", "toolkit", "docker")
ORDER = ("first", "second")
"""The second is what a vendor rotates to."""


@dataclass(frozen=True)
class Key:
    """One key: its fingerprint and its armoured public part."""

    fingerprint: str
    public: str


class Keyring:
    """The keys in a directory of gpg's, which only the tests of this checkout have."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def key(self, vendor: str, order: str) -> Key:
        """A vendor's key, made at the first question."""
        user = f"{vendor} {order} <{vendor}-{order}@example.org>"
        if not self._fingerprint(user):
            made = ("--quick-generate-key", user, "rsa3072", "sign", "never")
            self._gpg("--passphrase", "", *made)
        return Key(self._fingerprint(user), self._gpg("--armor", "--export", f"={user}").decode())

    def sign(self, release: bytes, key: Key) -> bytes:
        """The text of InRelease for one of Release."""
        return self._gpg("--local-user", key.fingerprint, "--clearsign", given=release)

    def close(self) -> None:
        """End gpg's agent, which would outlive its directory."""
        command = ["gpgconf", "--homedir", str(self._directory), "--kill", "all"]
        subprocess.run(command, check=False, capture_output=True)

    def _fingerprint(self, user: str) -> str:
        listed = self._gpg("--with-colons", "--list-keys", f"={user}", check=False).decode()
        lines = (line.split(":") for line in listed.splitlines())
        return next((fields[9] for fields in lines if fields[0] == "fpr"), "")

    def _gpg(self, *arguments: str, given: bytes | None = None, check: bool = True) -> bytes:
        command = [
            *("gpg", "--homedir", str(self._directory), "--batch", "--quiet", "--yes"),
            *("--pinentry-mode", "loopback", "--digest-algo", "SHA512", *arguments),
        ]
        return subprocess.run(command, input=given, check=check, capture_output=True).stdout
