#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors

from __future__ import annotations

DOCUMENTATION = r"""
module: local_certificate
short_description: Keep a certificate that an authority of the host's own has signed
version_added: 0.3.0
author:
  - The baremetal.vllm contributors (@baremetal-vllm)
description:
  - Makes an authority on the host, once, and has it sign the certificate of a server. For labs and
    homes, whose names no public authority knows.
  - The server's certificate is made anew when it ends within O(renew_days), when O(names) are
    others, and when anything about it is damaged. The authority is kept, so that clients trust the
    new one too; it is made anew only when it is damaged or ends within O(renew_days).
  - In O(directory) are C(server.pem), the key of the server and its certificate; C(authority.pem),
    those of the authority; and C(ca.pem), the authority's certificate alone, which clients are
    given. The first two are readable by their owner only.
  - A key and its certificate are one file, which one rename replaces. Whenever a run is killed, the
    server has a pair that fits.
  - Whoever can read C(authority.pem) can make certificates that its clients trust, for every name.
options:
  directory:
    description: Where the files lie. It must exist or its parent must.
    type: path
    required: true
  names:
    description: DNS names and IP addresses under which clients ask for the server.
    type: list
    elements: str
    required: true
  renew_days:
    description: Days before its end at which a certificate is made anew.
    type: int
    default: 30
attributes:
  check_mode:
    description: Tells what would be made anew, and why.
    support: full
  diff_mode:
    description: Shows which files change. Their content is shown in no diff.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: debian
requirements:
  - The program openssl, when something has to be made.
"""

EXAMPLES = r"""
- name: Keep a certificate for the edge
  baremetal.vllm.local_certificate:
    directory: /etc/nginx/vllm/tls
    names: [llm.home.arpa, 192.0.2.7]
  notify: Reload nginx
"""

RETURN = r"""
reasons:
  description: Why something was made anew, one for each thing; empty where nothing was.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/vllm/tls/server.pem expires in 29 days]
authority_changed:
  description: Whether the authority is another one, which clients do not trust yet.
  returned: success
  type: bool
  sample: false
authority:
  description: Path of the certificate that clients shall trust.
  returned: success
  type: str
  sample: /etc/nginx/vllm/tls/ca.pem
fingerprint:
  description: Its SHA-256; empty in check mode where it is still to be made.
  returned: success
  type: str
  sample: 9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab
diff:
  description: Which files changed.
  returned: in diff mode
  type: list
  elements: dict
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set as file_set
from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import (
    CertificateError,
    fingerprint,
    first_certificate,
)
from ansible_collections.baremetal.vllm.plugins.module_utils._local_authority import (
    Lifetimes,
    LocalAuthorityError,
    Paths,
    check_names,
    make_authority,
    make_server,
    wrong_with_authority,
    wrong_with_server,
)

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "directory": {"type": "path", "required": True},
    "names": {"type": "list", "elements": "str", "required": True},
    "renew_days": {"type": "int", "default": 30},
}


class LocalCertificate:
    """Decides what has to be made, makes it, and puts it in place as one change."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._names: list[str] = module.params["names"]
        self._paths = Paths(module.params["directory"])
        self._lifetimes = Lifetimes(renew=module.params["renew_days"])

    def run(self) -> dict[str, t.Any]:
        """Bring the files to their wanted state and return the module's result."""
        check_names(self._names)
        paths, lifetimes = self._paths, self._lifetimes
        authority_reason = wrong_with_authority(paths, lifetimes)
        server_reason = authority_reason or wrong_with_server(paths, self._names, lifetimes)
        made = self._made(bool(authority_reason), bool(server_reason))
        changes = file_set.plan(self._wanted(*made), predict=self._module.check_mode)
        if not self._module.check_mode:
            file_set.install(changes)
        result = {
            "changed": bool(changes),
            "reasons": list(dict.fromkeys(filter(None, [authority_reason, server_reason]))),
            "authority_changed": bool(authority_reason),
            "authority": paths.public,
            "fingerprint": _fingerprint(made[0]),
        }
        if self._module._diff:
            result["diff"] = file_set.diff(changes, sensitive=True)
        return result

    def _made(self, new_authority: bool, new_server: bool) -> tuple[str, str, str]:
        """Return the texts of ca.pem, authority.pem and server.pem; empty for those to come."""
        paths, lifetimes = self._paths, self._lifetimes
        if self._module.check_mode:
            authority = "" if new_authority else _text(paths.authority)
            public = "" if new_authority else f"{first_certificate(paths.authority)}\n"
            return public, authority, "" if new_server else _text(paths.server)
        openssl = self._openssl() if new_server else ""
        authority = make_authority(openssl, lifetimes) if new_authority else _text(paths.authority)
        server = (
            make_server(openssl, authority, self._names, lifetimes)
            if new_server
            else _text(paths.server)
        )
        certificate = authority[authority.index("-----BEGIN CERTIFICATE-----") :]
        return certificate, authority, server

    def _openssl(self) -> str:
        program = self._module.get_bin_path("openssl")
        if program is None:
            raise LocalAuthorityError(
                "the host has no program openssl, which makes certificates; install the package"
                " openssl before this task."
            )
        return str(program)

    def _wanted(self, public: str, authority: str, server: str) -> file_set.FileSet:
        # In this order: what was signed by another authority is made anew by the next run.
        user, group = str(os.geteuid()), str(os.getegid())
        paths = self._paths
        return file_set.FileSet(
            files=(
                file_set.File(paths.authority, authority.encode(), 0o600, user, group),
                file_set.File(paths.public, public.encode(), 0o644, user, group),
                file_set.File(paths.server, server.encode(), 0o600, user, group),
            ),
            directories=(file_set.Directory(paths.directory, owner=user, group=group),),
        )


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _fingerprint(public: str) -> str:
    return fingerprint(public.strip()) if public else ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = LocalCertificate(module).run()
    except (LocalAuthorityError, CertificateError, file_set.FileSetError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
