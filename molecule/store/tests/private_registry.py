# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""A registry as companies have them: TLS from an authority of its own, and a login."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import LAB, ROOT, lab_host
from on_host import HOST

sys.path.insert(0, str(ROOT / "molecule/shared"))
from lab import images, settings

NAME = "private:5000"
USER, PASSWORD = "robot", "correct-horse"
CERTIFICATES = f"/etc/docker/certs.d/{NAME}"
LOGIN = "/root/.docker/config.json"


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    """What Docker on this machine prints; it has to succeed."""
    done = subprocess.run(["docker", *arguments], input=stdin, check=True, capture_output=True)
    return done.stdout.decode()


@dataclass(frozen=True)
class PrivateRegistry:
    """The registry, and the lab host that pulls from it; `ca` is the text of its authority."""

    container: str
    ca: str

    @classmethod
    def start(cls, directory: Path) -> PrivateRegistry:
        """Make an authority, a certificate and a login, and serve with them."""
        _make_certificates(directory)
        container = f"vllm-{LAB}-private"
        docker("rm", "--force", container)
        variables = {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/etc/private/users",
            "REGISTRY_AUTH_HTPASSWD_REALM": "lab",
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/etc/private/server.pem",
            "REGISTRY_HTTP_TLS_KEY": "/etc/private/server.key",
        }
        environment = [f"--env={name}={value}" for name, value in variables.items()]
        label = f"--label={settings.LABEL}={LAB}"
        place = [f"--name={container}", f"--network={settings.NETWORK}", "--network-alias=private"]
        docker("create", label, *place, *environment, images.registry())
        # Only perl, of what every Debian has, makes bcrypt of a password.
        salted = f"print crypt('{PASSWORD}', '$2y$05$abcdefghijklmnopqrstuu')"
        password = docker("run", "--rm", "--entrypoint=perl", images.registry(), "-e", salted)
        (directory / "users").write_text(f"{USER}:{password}\n")
        docker("cp", f"{directory}/.", f"{container}:/etc/private")
        docker("start", container)
        return cls(container, (directory / "ca.pem").read_text())

    def trust(self, trusted: bool = True) -> None:
        """Put its authority where the host's Docker looks for it, or take it away."""
        host = lab_host(HOST)
        if not trusted:
            host.check_output(f"rm -rf {CERTIFICATES}")
            return
        host.check_output(
            f"mkdir -p {CERTIFICATES} && cat >{CERTIFICATES}/ca.crt <<'X'\n{self.ca}X"
        )

    def log_in(self, password: str = PASSWORD) -> None:
        """Write the login that `docker login` would write."""
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        config = json.dumps({"auths": {NAME: {"auth": login}}})
        lab_host(HOST).check_output(f"mkdir -p /root/.docker && echo '{config}' >{LOGIN}")

    def push(self, tag: str, kilobytes: int) -> str:
        """Push an image of random content from the host; its digest. The host keeps nothing."""
        self.trust()
        self.log_in()
        image = f"{NAME}/small:{tag}"
        return lab_host(HOST).check_output(
            f"cd $(mktemp -d) && dd if=/dev/urandom of=data bs=1k count={kilobytes} 2>/dev/null"
            f" && tar -c data | docker import - {image} >/dev/null && docker push --quiet {image}"
            f" >/dev/null && docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image}"
            f" | cut -d@ -f2 && docker image rm {image} >/dev/null"
        )

    def damage(self, digest: str) -> None:
        """Change a byte of the image's layer."""
        manifest = json.loads(docker("exec", self.container, "cat", _blob(digest)))
        layer = _blob(manifest["layers"][0]["digest"])
        spoil = f"printf X | dd of={layer} bs=1 seek=100 conv=notrunc"
        docker("exec", self.container, "sh", "-c", spoil)

    def remove(self) -> None:
        docker("rm", "--force", self.container)


def _blob(digest: str) -> str:
    """Where the registry keeps what has this digest."""
    digits = digest.removeprefix("sha256:")
    blobs = "/var/lib/registry/docker/registry/v2/blobs/sha256"
    return f"{blobs}/{digits[:2]}/{digits}/data"


def _make_certificates(directory: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ["req", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    openssl(
        *new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Authority of the lab"
    )
    openssl(*new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=private")
    (directory / "names").write_text("subjectAltName=DNS:private\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", "-days", "2", "-out", "server.pem", *signed)
