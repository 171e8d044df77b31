# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""An authority in a directory, made by the program openssl: certificates for tests."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates; all files lie in `directory`, with the name of what they are for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = self.paths("authority")
        openssl(
            *("req", "-x509", *_CURVE, "-keyout", self.key, "-out", self.certificate),
            *("-days", "3650", "-subj", "/CN=Test Authority"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        (directory / "index").touch()

    def paths(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def sign(
        self,
        name: str,
        names: str = "DNS:llm.example.com,IP:192.0.2.7",
        from_days: float = -1,
        to_days: float = 90,
        purpose: str = "serverAuth",
    ) -> tuple[Path, Path]:
        """Return a certificate and its key; days are counted from now."""
        certificate, key = self.paths(name)
        request, settings = self.directory / f"{name}.csr", self.directory / f"{name}.cnf"
        openssl("req", "-new", *_CURVE, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        settings.write_text(
            f"[ca]\ndefault_ca=here\n[here]\ndatabase={self.directory / 'index'}\n"
            f"new_certs_dir={self.directory}\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
            f"[server]\nsubjectAltName={names}\nextendedKeyUsage={purpose}\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl(
            *("ca", "-batch", "-notext", "-config", settings, "-extensions", "server"),
            *("-cert", self.certificate, "-keyfile", self.key, "-in", request),
            *("-out", certificate, "-startdate", _time(from_days), "-enddate", _time(to_days)),
        )
        return certificate, key


def _time(days: float) -> str:
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return moment.strftime("%Y%m%d%H%M%SZ")
