# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""Packages for a bundle: which ones the roles want, and how apt brings them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.baremetal.vllm.plugins.plugin_utils import _bundle_packages, _provision
from ansible_collections.baremetal.vllm.plugins.plugin_utils._bundle_packages import (
    SYSTEMS,
    Installation,
    PackagesError,
    Wanted,
    fetch_packages,
    wanted,
)

ROLES = Path(_provision.__file__).parents[2] / "roles"
VENDORS_KEYS = Path(__file__).parents[1] / "module_utils" / "keys"

needs_apt = pytest.mark.skipif(
    not shutil.which("apt-get"), reason="apt-get is only on Debian and its children"
)


# -- what is wanted ------------------------------------------------------------------------------


def variables(**changed: Any) -> dict[str, dict[str, Any]]:
    """The roles' own defaults; `role_variable=value` changes one."""
    found = {}
    for role in _provision.ROLES.values():
        text = (ROLES / role / "defaults" / "main.yml").read_text()
        all_of_it = yaml.safe_load(text) | {
            name: value for name, value in changed.items() if name.startswith(f"{role}_")
        }
        found[role] = {name.removeprefix(f"{role}_"): value for name, value in all_of_it.items()}
    return found


def kind(
    gpus: bool = True,
    gpu_host: bool = True,
    edge: bool = True,
    several_models: bool = False,
    tls: str = "none",
    shares_address: bool = False,
    **changed: Any,
) -> Any:
    return {
        "gpu_host": gpu_host,
        "wants_gpus": gpus,
        "edge": edge,
        "several_models": several_models,
        "tls": tls,
        "shares_address": shares_address,
        "roles": variables(**changed),
    }


def asked(system: str, *kinds: Any, **more: Any) -> Installation:
    (one,) = wanted(system, kinds or [kind()], **more).installations
    return one


ALWAYS = ["python3-apt", "nftables", "nginx", "ca-certificates"]
ENGINE = ["docker-ce=5:29.9.0-*", "docker-ce-cli=5:29.9.0-*", "containerd.io"]
TOOLKIT = ["nvidia-container-toolkit-base=1.20.1-*"]
DRIVER = {
    "debian": ["nvidia-driver-cuda", "nvidia-kernel-open-dkms"],
    "ubuntu": ["libnvidia-compute-580", "nvidia-dkms-580-open"],
}
SWITCHES = ["nvidia-fabricmanager=580.178.04-*", "nvlsm", "infiniband-diags"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_gets_what_the_roles_install_on_it(system: str) -> None:
    found = asked(system)
    family = system.partition("-")[0]
    names = [*DRIVER[family], "nvidia-persistenced", "nvidia-modprobe"]
    driver = [f"{name}=580.178.04-*" for name in names]
    assert sorted(found.packages) == sorted([*ALWAYS, *ENGINE, *TOOLKIT, *driver])
    utilities = ["nvidia-utils-580=580.178.04-*"] if family == "ubuntu" else []
    assert list(found.optional) == [*utilities, *SWITCHES]


@pytest.mark.parametrize(
    ("system", "codename", "directory"),
    [
        ("debian-12", "bookworm", "debian12"),
        ("debian-13", "trixie", "debian13"),
        ("ubuntu-22.04", "jammy", "ubuntu2204"),
        ("ubuntu-24.04", "noble", "ubuntu2404"),
    ],
)
def test_sources_are_those_of_the_system(system: str, codename: str, directory: str) -> None:
    driver, docker, toolkit = asked(system).sources
    assert docker["suites"] == [codename] == [SYSTEMS[system].codename]
    assert docker["uris"] == [f"https://download.docker.com/linux/{system.partition('-')[0]}"]
    assert f"/{directory}/x86_64/" in driver["uris"][0]
    assert toolkit["uris"] == ["https://nvidia.github.io/libnvidia-container/stable/deb/amd64"]
    assert all(source["key_url"] and source["fingerprints"] for source in (driver, toolkit, docker))


def test_the_same_pins_hold_as_on_a_host() -> None:
    pins = "\n".join(asked("debian-12").preferences)
    for version in ("580.178.04-*", "5:29.9.0-*", "1.20.1-*"):
        assert f"Pin: version {version}\n" in pins


def test_another_processor_has_other_repositories() -> None:
    driver, docker, toolkit = asked("ubuntu-24.04", architecture="arm64").sources
    assert driver["uris"][0].endswith("/sbsa/")
    assert toolkit["uris"][0].endswith("/arm64")
    assert docker["architectures"] == ["arm64"]


def test_hosts_without_gpus_get_nothing_of_nvidia() -> None:
    found = asked("debian-13", kind(gpus=False))
    assert sorted(found.packages) == sorted([*ALWAYS, *ENGINE])
    assert found.optional == ()
    assert [source["name"] for source in found.sources] == ["baremetal-vllm-docker"]


def test_an_edge_alone_gets_nginx() -> None:
    found = asked("debian-13", kind(gpus=False, gpu_host=False))
    assert found == Installation(("python3-apt", "nginx"))


@pytest.mark.parametrize(
    ("edge", "more"),
    [
        ({"several_models": False}, ()),
        ({"several_models": True}, ("libnginx-mod-http-js",)),
        ({"tls": "files"}, ()),
        ({"tls": "self_signed"}, ("openssl",)),
        ({"shares_address": True}, ("keepalived", "curl")),
        ({"tls": "self_signed", "several_models": True}, ("libnginx-mod-http-js", "openssl")),
    ],
)
def test_an_edge_gets_what_its_variables_ask_for(
    edge: dict[str, Any], more: tuple[str, ...]
) -> None:
    found = asked("debian-13", kind(gpus=False, gpu_host=False, **edge))
    assert found.packages == ("python3-apt", "nginx", *more)
    engine = asked("debian-13", kind(gpus=False, edge=False, **edge))
    assert not {"nginx", *more} & set(engine.packages)


def test_a_system_that_cannot_route_between_models() -> None:
    several = kind(gpus=False, gpu_host=False, several_models=True)
    with pytest.raises(PackagesError, match=r"^ubuntu-22\.04: has no libnginx-mod-http-js, by"):
        wanted("ubuntu-22.04", [several])
    assert asked("ubuntu-24.04", several)


def test_what_is_the_operators_own_is_not_brought() -> None:
    sources = dict.fromkeys(("nvidia_driver_source", "docker_engine_source"), "preinstalled")
    found = asked("debian-12", kind(**sources, container_toolkit_source="preinstalled"))
    assert found == Installation(("python3-apt", "nftables", "nginx"))


def test_kinds_that_another_one_includes_are_not_asked_for_again() -> None:
    edge, cpu, gpu = kind(False, False), kind(False), kind()
    for kinds in ([edge, cpu, gpu], [gpu, cpu, edge], [cpu, gpu, cpu]):
        assert wanted("debian-12", kinds).installations == (asked("debian-12"),)


def test_two_versions_are_two_installations() -> None:
    found = wanted("debian-12", [kind(), kind(docker_engine_version="28.5.2")]).installations
    assert ["docker-ce=5:28.5.2-*" in each.packages for each in found] == [False, True]


def test_kernels_have_headers_where_the_archive_has_them() -> None:
    kernels = ["6.1.0-41-amd64", "6.12.57+deb13-amd64"]
    found = wanted("debian-12", [kind()], kernels=kernels)
    (one,) = found.installations
    assert [each for each in one.optional if each.startswith("linux-")] == [
        f"linux-headers-{release}" for release in kernels
    ]
    assert found.notes == ()


def test_kernels_have_signed_modules_where_they_come_from_ubuntu() -> None:
    found = asked("ubuntu-24.04", kind(nvidia_driver_source="distro"), kernels=["6.8.0-90-generic"])
    assert "linux-modules-nvidia-580-server-open-6.8.0-90-generic" in found.optional
    assert "nvidia-headless-no-dkms-580-server-open" in found.packages


def test_without_kernels_a_note_says_what_is_missing() -> None:
    found = wanted("debian-12", [kind()])
    assert not [each for each in found.installations[0].packages if "unknown" in each]
    (note,) = found.notes
    assert "bundle_kernels" in note
    assert wanted("debian-12", [kind(gpus=False)]).notes == ()


def test_what_the_roles_refuse_is_refused_here() -> None:
    old = kind(docker_engine_source="distro")
    with pytest.raises(PackagesError, match=r"^debian-12: would run on Docker 20\.10"):
        wanted("debian-12", [old])
    found = wanted("debian-12", [old, kind()])  # it may be a host of another system
    assert found.installations == (asked("debian-12"),)
    assert found.notes[0].startswith("debian-12: would run on Docker 20.10")


def test_a_system_that_is_none_is_refused() -> None:
    with pytest.raises(PackagesError, match="bundle_systems has 'debian-11'; the systems of hosts"):
        wanted("debian-11", [kind()])


def test_no_package_of_a_role_is_forgotten() -> None:
    """What tasks install by name, and not as a plan says."""
    edge, shared = (
        yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text())
        for role in ("edge", "edge_vip")
    )
    named = {edge["_edge_package"], edge["_edge_njs_package"], *shared["_edge_vip_packages"]}
    for path in ROLES.glob("*/tasks/*.yml"):
        for task in yaml.safe_load(path.read_text()) or []:
            names = (task.get("ansible.builtin.apt") or {}).get("name", [])
            named |= {names} if isinstance(names, str) else set(names)
            named.add((task.get("vars") or {}).get("__edge_certificate_package", ""))
    everything = kind(several_models=True, tls="self_signed", shares_address=True)
    installed = set(asked("debian-12", everything).packages)
    named -= {"", "certbot"}  # with a bundle edge_tls: acme is refused
    assert {name for name in named if "{" not in name} <= installed
    assert {"nginx", "nftables", "openssl"} <= named


# -- the distribution's archive ------------------------------------------------------------------


@pytest.fixture
def keyrings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: True)


@pytest.mark.usefixtures("keyrings")
@pytest.mark.parametrize(
    ("system", "architecture", "mirror", "expected"),
    [
        (
            "debian-13",
            "amd64",
            "",
            ["http://deb.debian.org/debian", "http://deb.debian.org/debian-security"],
        ),
        (
            "debian-12",
            "arm64",
            "https://apt.example.org/debian/",
            ["https://apt.example.org/debian", "https://apt.example.org/debian-security"],
        ),
        ("ubuntu-24.04", "amd64", "", ["http://archive.ubuntu.com/ubuntu"]),
        ("ubuntu-24.04", "arm64", "", ["http://ports.ubuntu.com/ubuntu-ports"]),
        ("ubuntu-22.04", "amd64", "file:/srv/ubuntu", ["copy:/srv/ubuntu"]),
    ],
)
def test_addresses_of_the_archive(
    system: str, architecture: str, mirror: str, expected: list[str]
) -> None:
    text = _bundle_packages._archive_text(system, architecture, mirror)
    lines = [line.partition(": ") for line in text.splitlines()]
    assert [value for name, _colon, value in lines if name == "URIs"] == expected
    codename = SYSTEMS[system].codename
    suites = [value for name, _colon, value in lines if name == "Suites"]
    assert set(" ".join(suites).split()) == {
        codename,
        f"{codename}-updates",
        f"{codename}-security",
    }


def test_a_missing_keyring_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(PackagesError, match=r"ubuntu-archive-keyring\.gpg.*install ubuntu-keyring"):
        _bundle_packages._archive_text("ubuntu-24.04", "amd64", "")


# -- fetching ------------------------------------------------------------------------------------


class Archive:
    """A small archive of packages in one directory."""

    def __init__(self, directory: Path, address: str = "") -> None:
        self.directory = directory
        self.address = address
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, version: str, architecture: str = "amd64", **fields: str) -> Path:
        tree = self.directory / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        control = {
            "Package": name,
            "Version": version,
            "Architecture": architecture,
            "Maintainer": "nobody <nobody@example.org>",
            **fields,
            "Description": f"{name} for a test\n More of it.\n Package: none",
        }
        text = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in control.items())
        (tree / "DEBIAN" / "control").write_text(text)
        (tree / "usr").mkdir()
        (tree / "usr" / name).write_text(f"{name} {version}\n" * 500)
        short = version.rpartition(":")[2]
        path = self.directory / f"{name}_{short}_{architecture}.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
        return path

    def publish(self, sign: Callable[[Path], None] | None = None) -> None:
        texts = []
        for path in sorted(self.directory.glob("*.deb")):
            said = subprocess.check_output(["dpkg-deb", "--field", path], text=True)
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            texts.append(f"{said}Filename: ./{path.name}\nSize: {len(content)}\nSHA256: {digest}\n")
        index = "\n".join(texts).encode()
        (self.directory / "Packages").write_bytes(index)
        release = self.directory / "Release"
        digest = hashlib.sha256(index).hexdigest()
        release.write_text(
            f"Date: Sat, 21 Nov 2026 20:00:00 UTC\nSHA256:\n {digest} {len(index)} Packages\n"
        )
        if sign:
            sign(release)


class Server:
    """Serves a directory, and remembers what was asked for."""

    def __init__(self, root: Path) -> None:
        self.asked: list[str] = []
        self.absent: set[str] = set()
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                outer.asked.append(name)
                if name in outer.absent:
                    self.send_error(404)
                else:
                    super().do_GET()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        serve = partial(self._server.serve_forever, poll_interval=0.05)
        threading.Thread(target=serve, daemon=True).start()

    def packages(self) -> list[str]:
        """Packages that were asked for since the last time."""
        found = sorted(name for name in self.asked if name.endswith(".deb"))
        self.asked.clear()
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(_bundle_packages, "_RETRIES", 0)
    for name in ("http_proxy", "HTTP_PROXY", "APT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "served").mkdir()
    served = Server(tmp_path / "served")
    yield served
    served.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of a distribution; building them takes longer than most tests."""
    archive = Archive(tmp_path_factory.mktemp("debian"))
    archive.add("nginx", "1.22.1-9", Depends="nginx-common (= 1.22.1-9)", Recommends="extra")
    archive.add("nginx-common", "1.22.1-9", "all", Depends="base | other")
    for name in ("base", "other", "extra", "stranger"):
        archive.add(name, "1.0-1")
    archive.add("tool", "5:1.0-1", Depends="tool-library (= 1.0-1)")
    archive.add("tool", "5:2.0-1", Depends="tool-library (= 2.0-1)")
    archive.add("tool-library", "1.0-1")
    archive.add("tool-library", "2.0-1")
    archive.publish()
    return archive.directory


@pytest.fixture
def distribution(
    tmp_path: Path, server: Server, built: Path, monkeypatch: pytest.MonkeyPatch
) -> Archive:
    """The archive of a system; trusted, as a test has no key of Debian's."""
    archive = Archive(tmp_path / "served" / "debian", f"{server.address}/debian")
    shutil.copytree(built, archive.directory, dirs_exist_ok=True)
    entry = f"Types: deb\nURIs: {archive.address}\nSuites: ./\nTrusted: yes\n"
    monkeypatch.setattr(_bundle_packages, "_archive_text", lambda *arguments: entry)
    return archive


PIN = """\
Package: tool
Pin: version 5:1.0-*
Pin-Priority: 1001

Package: tool-library
Pin: version 1.0-*
Pin-Priority: 1001
"""


def get(directory: Path, *installations: Installation, say: Any = lambda line: None) -> Any:
    asked_for = Wanted("debian-12", installations)
    return fetch_packages(asked_for, directory / "packages" / "debian-12", say=say)


def files(found: Mapping[str, Any]) -> list[str]:
    return [each["file"] for each in found["packages"]]


NGINX = Installation(("nginx",))
CLOSURE = ["base_1.0-1_amd64.deb", "nginx-common_1.22.1-9_all.deb", "nginx_1.22.1-9_amd64.deb"]


@needs_apt
class TestFetch:
    def test_packages_come_with_all_that_they_depend_on(
        self, tmp_path: Path, distribution: Archive
    ) -> None:
        found = get(tmp_path, NGINX)
        assert files(found) == CLOSURE
        directory = tmp_path / "packages" / "debian-12"
        assert sorted(os.listdir(directory)) == sorted([*CLOSURE, "Packages"])
        for each in found["packages"]:
            content = (directory / each["file"]).read_bytes()
            assert content == (distribution.directory / each["file"]).read_bytes()
            assert each["sha256"] == hashlib.sha256(content).hexdigest()
            assert each["size"] == len(content)
        assert found["system"] == "debian-12"
        assert {each["name"]: each["version"] for each in found["packages"]} == {
            "base": "1.0-1",
            "nginx-common": "1.22.1-9",
            "nginx": "1.22.1-9",
        }

    def test_pins_hold_for_dependencies_too(self, tmp_path: Path, distribution: Archive) -> None:
        one = Installation(("tool=5:1.0-*",), preferences=(PIN,))
        assert files(get(tmp_path, one)) == ["tool-library_1.0-1_amd64.deb", "tool_1.0-1_amd64.deb"]
        with pytest.raises(PackagesError, match=r"cannot be installed together \(.*tool-library"):
            get(tmp_path, Installation(("tool=5:1.0-*",)))

    def test_installations_that_differ_are_all_brought(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        old = Installation(("tool=5:1.0-*", "base"), preferences=(PIN,))
        found = get(tmp_path, old, Installation(("tool", "base")))
        assert files(found) == [
            "base_1.0-1_amd64.deb",
            "tool-library_1.0-1_amd64.deb",
            "tool-library_2.0-1_amd64.deb",
            "tool_1.0-1_amd64.deb",
            "tool_2.0-1_amd64.deb",
        ]
        assert server.packages() == files(found)  # none of them twice

    def test_what_is_there_is_not_fetched_again(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        first = get(tmp_path, NGINX)
        assert server.packages() == CLOSURE
        assert get(tmp_path, NGINX) == first
        assert server.packages() == []

    def test_what_is_damaged_is_fetched_again(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        first = get(tmp_path, NGINX)
        server.packages()
        damaged = tmp_path / "packages" / "debian-12" / CLOSURE[0]
        damaged.write_bytes(b"x" * damaged.stat().st_size)
        assert get(tmp_path, NGINX) == first
        assert server.packages() == [CLOSURE[0]]

    def test_what_is_not_wanted_any_more_goes(self, tmp_path: Path, distribution: Archive) -> None:
        get(tmp_path, NGINX)
        get(tmp_path, Installation(("stranger",)))
        left = os.listdir(tmp_path / "packages" / "debian-12")
        assert sorted(left) == ["Packages", "stranger_1.0-1_amd64.deb"]

    def test_what_has_arrived_before_a_failure_is_kept(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        server.absent = {CLOSURE[2]}
        with pytest.raises(PackagesError, match=r"^debian-12: .*cannot be downloaded \(.*404"):
            get(tmp_path, NGINX)
        server.absent = set()
        server.packages()
        assert files(get(tmp_path, NGINX)) == CLOSURE
        assert server.packages() == [CLOSURE[2]]

    def test_a_failure_leaves_the_earlier_bundle_whole(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        get(tmp_path, NGINX)
        directory = tmp_path / "packages" / "debian-12"
        before = {path.name: path.read_bytes() for path in directory.iterdir()}
        server.absent = {"stranger_1.0-1_amd64.deb"}
        with pytest.raises(PackagesError):
            get(tmp_path, Installation(("stranger",)))
        after = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
        assert after == before

    def test_a_package_that_is_nowhere_is_named(
        self, tmp_path: Path, distribution: Archive
    ) -> None:
        with pytest.raises(PackagesError, match=r"^debian-12: .* no package caddy; see that"):
            get(tmp_path, Installation(("nginx", "caddy")))

    def test_a_version_that_is_nowhere_is_named_with_those_that_are(
        self, tmp_path: Path, distribution: Archive
    ) -> None:
        with pytest.raises(PackagesError, match=r"no tool 5:3\.0-\*, but 5:2\.0-1, 5:1\.0-1; set"):
            get(tmp_path, Installation(("tool=5:3.0-*",)))

    def test_an_archive_out_of_reach_is_told_with_what_apt_said(
        self, tmp_path: Path, distribution: Archive, server: Server
    ) -> None:
        server.close()
        with pytest.raises(PackagesError, match=r"lists cannot be read \(.*127\.0\.0\.1"):
            get(tmp_path, NGINX)

    def test_what_is_optional_is_noted_where_it_is_missing(
        self, tmp_path: Path, distribution: Archive
    ) -> None:
        one = Installation(("base",), ("extra", "linux-headers-6.1.0-1-amd64", "extra=7-*"))
        found = get(tmp_path, one)
        assert files(found) == ["base_1.0-1_amd64.deb", "extra_1.0-1_amd64.deb"]
        (note,) = found["notes"]
        assert "have no linux-headers-6.1.0-1-amd64, extra;" in note

    def test_progress_is_told(self, tmp_path: Path, distribution: Archive) -> None:
        lines: list[str] = []
        get(tmp_path, NGINX, say=lines.append)
        assert lines[0] == "debian-12: reading the package lists"
        assert lines[-1].startswith("debian-12: 3 packages, 0.00 GiB, of which 0.00 GiB are here")

    def test_a_long_download_is_told_of_meanwhile(
        self, tmp_path: Path, distribution: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_bundle_packages, "_TELL_EVERY", 0.001)  # apt takes longer to start
        lines: list[str] = []
        get(tmp_path, NGINX, say=lines.append)
        assert lines[-1] == "debian-12: 0.00 of 0.00 GiB of packages"

    def test_the_proxy_of_this_machine_is_used(
        self, tmp_path: Path, distribution: Archive, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = tmp_path / "own.conf"
        own.write_text(
            'Acquire::http::Proxy::127.0.0.1 "http://127.0.0.1:9";\n'
            'Acquire::Retries "0";\nDPkg::Pre-Invoke { "false"; };\n'
        )
        monkeypatch.setenv("APT_CONFIG", str(own))
        with pytest.raises(PackagesError, match=r"lists cannot be read \(.*127\.0\.0\.1.9"):
            get(tmp_path, NGINX)

    def test_a_host_installs_from_the_directory_alone(
        self, tmp_path: Path, distribution: Archive
    ) -> None:
        """As the role lays it on a host: the index that apt reads is below index/."""
        get(tmp_path, NGINX)
        shutil.rmtree(distribution.directory)
        directory = tmp_path / "packages" / "debian-12"
        (directory / "index").mkdir()
        (directory / "Packages").rename(directory / "index" / "Packages")
        host = tmp_path / "host"
        for name in ("lists/partial", "archives/partial"):
            (host / name).mkdir(parents=True)
        (host / "status").touch()
        (host / "sources.sources").write_text(
            f"Types: deb\nURIs: file:{directory}\nSuites: index/\nTrusted: yes\n"
        )
        configuration = {
            "Dir": f"{host}/",
            "Dir::State": f"{host}/",
            "Dir::State::status": f"{host}/status",
            "Dir::Cache": f"{host}/",
            "Dir::Etc": f"{host}/",
            "Dir::Etc::sourcelist": "sources.sources",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
        }
        lines = "".join(f'{name} "{value}";\n' for name, value in configuration.items())
        (host / "apt.conf").write_text(lines)
        environment = {**os.environ, "APT_CONFIG": str(host / "apt.conf"), "LC_ALL": "C"}
        for command in (["update", "--error-on=any"], ["install", "--download-only", "nginx"]):
            done = subprocess.run(
                ["apt-get", "--yes", *command],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert "3 newly installed" in done.stdout
        assert "Download complete and in download only mode" in done.stdout


@needs_apt
def test_what_is_installed_on_this_machine_counts_for_nothing(
    tmp_path: Path, distribution: Archive
) -> None:
    """Such as libc6, which hosts may lack."""
    distribution.add("libc6", "2.0-1")
    distribution.add("needs-libc", "1.0-1", Depends="libc6")
    distribution.publish()
    found = get(tmp_path, Installation(("needs-libc",)))
    assert files(found) == ["libc6_2.0-1_amd64.deb", "needs-libc_1.0-1_amd64.deb"]


# -- a vendor's repository -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Home of gpg with one key, and its fingerprint."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    made = ["--passphrase", "", "--quick-generate-key", "vendor", "ed25519", "sign", "never"]
    subprocess.run([*gpg, *made], check=True, capture_output=True)
    listed = subprocess.check_output([*gpg, "--with-colons", "--list-keys"], text=True)
    fingerprints = [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]
    yield home, fingerprints[0]
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture
def vendor(
    tmp_path: Path, server: Server, signer: tuple[Path, str]
) -> tuple[Archive, dict[str, Any]]:
    """A signed repository and the arguments of apt_source for it."""
    home, fingerprint = signer
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes"]

    def sign(release: Path) -> None:
        target = str(release.with_name("InRelease"))
        subprocess.run([*gpg, "--output", target, "--clearsign", str(release)], check=True)

    archive = Archive(tmp_path / "served" / "vendor", f"{server.address}/vendor")
    archive.add("engine", "5:29.9.0-1", Depends="base, engine-more")
    archive.add("engine-more", "29.9.0-1")
    archive.publish(sign)
    key = subprocess.check_output([*gpg, "--armor", "--export", "vendor"])
    (archive.directory / "key.asc").write_bytes(key)
    return archive, {
        "name": "vendor",
        "uris": [archive.address],
        "suites": ["./"],
        "components": [],
        "architectures": ["amd64"],
        "key_url": f"{archive.address}/key.asc",
        "fingerprints": [fingerprint],
        "state": "present",
    }


ENGINE_FILES = ["base_1.0-1_amd64.deb", "engine-more_29.9.0-1_amd64.deb"]
ENGINE_FILES += ["engine_29.9.0-1_amd64.deb"]


@needs_apt
@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg signs the repository of this test")
class TestVendor:
    def test_its_packages_come_with_those_of_the_distribution(
        self, tmp_path: Path, distribution: Archive, vendor: tuple[Archive, dict[str, Any]]
    ) -> None:
        _archive, source = vendor
        one = Installation(("engine=5:29.9.0-*",), sources=(source,))
        assert files(get(tmp_path, one)) == ENGINE_FILES

    @pytest.mark.parametrize("scheme", ["file", "http"])
    def test_it_may_be_a_directory_of_this_machine(
        self,
        tmp_path: Path,
        distribution: Archive,
        vendor: tuple[Archive, dict[str, Any]],
        scheme: str,
    ) -> None:
        archive, source = vendor
        local = {"uris": [f"file:{archive.directory}"]}
        if scheme == "file":
            local["key_url"] = f"file:{archive.directory}/key.asc"
        one = Installation(("engine",), sources=({**source, **local},))
        assert files(get(tmp_path, one)) == ENGINE_FILES

    def test_another_key_is_refused(
        self, tmp_path: Path, distribution: Archive, vendor: tuple[Archive, dict[str, Any]]
    ) -> None:
        archive, source = vendor
        shutil.copy(VENDORS_KEYS / "stranger.asc", archive.directory / "key.asc")
        one = Installation(("engine",), sources=(source,))
        with pytest.raises(PackagesError, match=r"key\.asc gave the key [0-9A-F]{40} .*allowed is"):
            get(tmp_path, one)

    def test_a_key_that_is_not_there_is_told_with_its_address(
        self, tmp_path: Path, distribution: Archive, vendor: tuple[Archive, dict[str, Any]]
    ) -> None:
        _archive, source = vendor
        lost = {**source, "key_url": f"{source['key_url']}.lost"}
        with pytest.raises(PackagesError, match=r"key\.asc\.lost cannot be fetched .*404"):
            get(tmp_path, Installation(("engine",), sources=(lost,)))

    def test_lists_that_somebody_changed_are_refused(
        self, tmp_path: Path, distribution: Archive, vendor: tuple[Archive, dict[str, Any]]
    ) -> None:
        archive, source = vendor
        index = archive.directory / "Packages"
        index.write_text(index.read_text().replace("engine-more", "engine-less"))
        with pytest.raises(PackagesError, match="lists cannot be read"):
            get(tmp_path, Installation(("engine",), sources=(source,)))

    def test_an_optional_package_of_its_version_is_its_own(
        self, tmp_path: Path, distribution: Archive, vendor: tuple[Archive, dict[str, Any]]
    ) -> None:
        """The distribution has packages of the same names and versions, which fit nothing of it."""
        _archive, source = vendor
        distribution.add("engine-tools", "29.9.0-1")
        distribution.publish()
        optional = ("engine-tools=29.9.0-*", "engine-more=29.9.0-*")
        found = get(tmp_path, Installation(("engine",), optional, (source,)))
        assert files(found) == ENGINE_FILES
        assert "have no engine-tools;" in found["notes"][0]


def test_a_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackagesError, match="no apt-get; write the bundle on Debian or Ubuntu"):
        get(tmp_path, NGINX)
