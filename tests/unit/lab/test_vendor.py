# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The vendors' repositories: packages that dpkg takes, indexes that apt takes, and the server."""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

# ansible-test runs in a copy of the collection that has no lab.
pytest.importorskip("vendor.package", reason="the lab is not in this tree")

from vendor import docker_ce, nvidia, server, toolkit
from vendor.keys import ORDER, Key
from vendor.package import File, Package, PackageError
from vendor.repository import Repository

PROGRAM = Package(
    "program",
    "5:1.2-1",
    {"Depends": "library (= 1.2-1)"},
    files={"/usr/bin/program": File.script("#!/bin/sh\n"), "/etc/program": File.text("a\n")},
    links={"/usr/bin/other": "program"},
    scripts={"postinst": "true\n"},
    conffiles=["/etc/program"],
)


class TestPackage:
    def test_dpkg_reads_what_was_written(self, tmp_path: Path) -> None:
        archive = PROGRAM.build(tmp_path)
        assert archive.name == "program_1.2-1_amd64.deb"  # without the epoch, as in a pool
        fields = ["dpkg-deb", "--field", str(archive), "Version", "Depends"]
        said = subprocess.check_output(fields, text=True)
        assert said == "Version: 5:1.2-1\nDepends: library (= 1.2-1)\n"
        listed = subprocess.check_output(["dpkg-deb", "--contents", str(archive)], text=True)
        assert "-rwxr-xr-x root/root" in listed
        assert "./usr/bin/other -> program" in listed

    def test_what_dpkg_refuses_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"program_none_amd64\.deb cannot be built"):
            Package("program", "none").build(tmp_path)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> list[Package]:
    return list(nvidia.packages(tmp_path_factory.mktemp("compiled")))


class TestDrivers:
    def test_every_release_is_whole(self, drivers: list[Package]) -> None:
        wanted = {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-fabricmanager"}
        wanted |= {"nvidia-persistenced", "nvidia-modprobe", "libnvidia-ml1"}
        for release in nvidia.RELEASES:
            assert wanted <= {each.name for each in drivers if each.version == f"{release}-1"}

    def test_what_one_package_asks_for_is_there(self, drivers: list[Package]) -> None:
        """But for Debian's own."""
        names = {each.name for each in drivers} | {"dkms", "libibumad3"}
        for package in drivers:
            for wanted in package.fields.get("Depends", "").split(","):
                alternatives = [each.split()[0] for each in wanted.split("|") if each.strip()]
                assert not alternatives or names & {*alternatives}, (package.name, wanted)

    def test_the_library_is_the_release_that_it_is_named_after(
        self, drivers: list[Package]
    ) -> None:
        library = next(each for each in drivers if each.name == "libnvidia-ml1")
        assert library.links["/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"].endswith("580.159.04")


def test_units_of_the_toolkit_moved_with_1_20() -> None:
    bases = [each for each in toolkit.packages() if each.name == "nvidia-container-toolkit-base"]
    unit = "systemd/system/nvidia-cdi-refresh.path"
    where = {each.version: [path for path in each.files if path.endswith(unit)] for each in bases}
    assert where["1.19.1-1"] == [f"/etc/{unit}"]
    assert where["1.20.1-1"] == [f"/lib/{unit}"]


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [("26.1.5+dfsg1-9+deb13u1", "26.1.5"), ("1.7.24~ds1-6+deb13u1", "1.7.24"), ("1.3-1", "1.3")],
)
def test_version_of_a_debian_package_is_its_upstream_s(
    tmp_path: Path, debian: str, upstream: str
) -> None:
    archive = Package("docker.io", debian).build(tmp_path)
    assert docker_ce.Unpacked.of(archive, tmp_path).version == upstream


class NoKeyring:
    """Signs by a word, so that a test needs no keys."""

    def key(self, vendor: str, order: str) -> Key:
        return Key(order * 2, f"key {vendor} {order}")

    def sign(self, release: bytes, key: Key) -> bytes:
        return key.fingerprint.encode() + b"\n" + release


class TestRepository:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        repository = Repository("cuda", "repos/debian13", "repos/key.pub", "NVIDIA", "NVIDIA CUDA")
        (tmp_path / repository.directory).mkdir(parents=True)
        archive = PROGRAM.build(tmp_path / repository.directory)
        repository.write(tmp_path, [archive], NoKeyring())  # type: ignore[arg-type]  # signs as a Keyring does
        return tmp_path

    def test_index_names_every_archive_with_its_digest(self, root: Path) -> None:
        archive = root / "repos/debian13/program_1.2-1_amd64.deb"
        index = (root / "repos/debian13/Packages").read_text()
        assert "Filename: ./program_1.2-1_amd64.deb\n" in index
        assert f"SHA256: {hashlib.sha256(archive.read_bytes()).hexdigest()}\n" in index

    def test_both_keys_sign_the_same_index(self, root: Path) -> None:
        index = hashlib.sha256((root / "repos/debian13/Packages").read_bytes()).hexdigest()
        for order in ORDER:
            signed = (root / f"repos/debian13/InRelease.{order}").read_text()
            assert signed.startswith(order * 2)
            assert index in signed
            assert (root / f"repos/key.pub.{order}").read_text() == f"key cuda {order}"


class TestServer:
    @pytest.fixture
    def port(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        for name in ("InRelease.first", "InRelease.second", "Packages"):
            (tmp_path / name).write_text(name)
        monkeypatch.setattr(server.Handler, "root", tmp_path)
        monkeypatch.setattr(server.Handler, "clients", {})
        monkeypatch.setattr(server.Handler, "log_message", lambda *_: None)
        running = ThreadingHTTPServer(("127.0.0.1", 0), server.Handler)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1]
        running.shutdown()
        running.server_close()

    @staticmethod
    def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
        connection: Any = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def test_first_keys_until_others_are_asked_for(self, port: int) -> None:
        assert self.ask(port, "/InRelease") == (200, "InRelease.first")
        assert self.ask(port, "/_key/second", "POST")[0] == 204
        assert self.ask(port, "/InRelease") == (200, "InRelease.second")
        assert self.ask(port, "/Packages") == (200, "Packages")

    def test_down_until_it_is_up_again(self, port: int) -> None:
        self.ask(port, "/_status/503", "POST")
        assert self.ask(port, "/Packages") == (503, "")
        self.ask(port, "/_status/200", "POST")
        assert self.ask(port, "/Packages")[0] == 200

    @pytest.mark.parametrize("path", ["/none", "/../../etc/passwd", "/", "/%2e%2e/x"])
    def test_what_is_not_below_the_root_is_not_there(self, port: int, path: str) -> None:
        assert self.ask(port, path)[0] == 404
