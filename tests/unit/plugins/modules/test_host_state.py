# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What host_state tells, on real files, sockets and programs, and on a host that has nothing."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pwd
import socket
import socketserver
import threading
import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _host_state as host
from ansible_collections.baremetal.vllm.plugins.modules import host_state
from ansible_collections.baremetal.vllm.tests.unit.authority_in_tmp import Authority

NOTHING: dict[str, t.Any] = {name: [] for name in host_state.argument_spec()}


def program(directory: Path, name: str, body: str) -> None:
    """Put a program into `directory` that stands for one of the host."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory


# -- the whole module ----------------------------------------------------------------------------


def test_a_virgin_host_answers_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = {
        **NOTHING,
        "packages": ["docker.io"],
        "services": ["docker.service"],
        "paths": [str(tmp_path / "missing")],
        "read": [str(tmp_path / "missing")],
        "disks": [str(tmp_path / "missing/deeper")],
        "images": ["vllm:1"],
        "containers": ["vllm-a"],
        "ports": [8000],
    }
    reader = host_state.Reader(wanted, str(tmp_path), str(tmp_path / "docker.sock"))
    state = reader.read()
    assert state["packages"] == {"docker.io": None}
    assert state["services"]["docker.service"]["load"] == "not-found"
    assert state["paths"][str(tmp_path / "missing")]["exists"] is False
    assert state["read"] == {str(tmp_path / "missing"): None}
    assert state["disks"][str(tmp_path / "missing/deeper")]["path"] == str(tmp_path)
    assert state["images"] == {"vllm:1": None}
    assert state["containers"] == {"vllm-a": None}
    assert state["docker"] == {
        "socket": False,
        "version": None,
        "api_version": None,
        "storage_driver": None,
        "root_dir": None,
        "cdi": None,
    }
    assert state["memory"] == {"total_bytes": None, "available_bytes": None}
    assert state["platform"]["service_mgr"] == "unknown"
    assert (state["nvidia_gpus"], state["cdi_devices"], state["listening"]) == (0, [], [])
    assert (state["held"], state["unfinished"], state["numa_cpus"]) == ([], [], {})
    assert state["kernel"] == {
        "release": os.uname().release,
        "headers": False,
        "secure_boot": None,
        "module_key_enrolled": None,
        "nouveau": False,
        "reboot_required": False,
    }
    assert state["nvidia"] == {
        "devices": [],
        "switch_managers": [],
        "module": None,
        "library": None,
        "built": {},
    }
    assert not {"kernel_log", "time"} & set(state)
    assert state["systemd"] is None
    assert state["cpus"] >= 1
    assert reader.warnings == []


@pytest.mark.parametrize("check", [False, True])
def test_the_module_reads_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: bool
) -> None:
    write(tmp_path / "daemon.json", '{"a": 1}\n')
    arguments = {
        "read": [str(tmp_path / "daemon.json")],
        "kernel_log": True,
        "gpu_users": True,
        "_ansible_check_mode": check,
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        host_state.main()
    result = json.loads(capsys.readouterr().out)
    assert result["changed"] is False
    state = result["host_state"]
    assert state["read"] == {str(tmp_path / "daemon.json"): '{"a": 1}\n'}
    assert 0 < state["memory"]["available_bytes"] < state["memory"]["total_bytes"]
    documented = host_state.RETURN
    assert all(f"\n    {key}:\n" in documented for key in state), state.keys()
    assert all(f"\n{key}:\n" in documented for key in ("root", "host_state"))


@pytest.mark.parametrize(("user", "root"), [(0, True), (1000, False)])
@pytest.mark.parametrize("path", ["/etc/hostname", "not/absolute"])
def test_whether_it_was_root_is_told_whatever_comes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    root: bool,
    path: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with patch_module_args({"paths": [path]}), pytest.raises(SystemExit):
        host_state.main()
    assert json.loads(capsys.readouterr().out)["root"] is root


@pytest.mark.parametrize("parameter", ["paths", "read", "disks"])
def test_relative_paths_are_refused(capsys: pytest.CaptureFixture[str], parameter: str) -> None:
    with patch_module_args({parameter: ["relative/path"]}), pytest.raises(SystemExit):
        host_state.main()
    message = json.loads(capsys.readouterr().out)["msg"]
    assert (
        message == f"{parameter}: 'relative/path' is not an absolute path: start it with a slash."
    )


def test_an_error_of_a_thread_is_not_swallowed(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "dpkg-query", "echo not-a-table")
    reader = host_state.Reader({**NOTHING, "packages": ["a"]}, str(tmp_path), str(tmp_path / "no"))
    with pytest.raises(ValueError, match="not enough values"):
        reader.read()


def test_a_host_without_route_or_source_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = mock.MagicMock()
    sender.__enter__.return_value = sender
    monkeypatch.setattr(host.socket, "socket", lambda *_kind: sender)
    for name, expected in (("192.0.2.7", "192.0.2.7"), ("0.0.0.0", None)):
        sender.getsockname.return_value = (name, 40000)
        assert host.default_address() == expected
    sender.connect.side_effect = OSError("Network is unreachable")
    assert host.default_address() is None


def test_what_runs_the_host_is_named(tmp_path: Path) -> None:
    for path, expected in (("proc/1", "sysvinit"), ("run/systemd/system", "systemd")):
        (tmp_path / path).mkdir(parents=True)
        if path == "proc/1":
            (tmp_path / path / "comm").write_text("sysvinit\n")
        assert host.service_manager(str(tmp_path)) == expected


def test_a_certificate_is_read_on_the_host_without_its_key(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "authority").sign("llm")
    files = {"certificate": str(certificate), "key": str(key)}
    wanted = {**NOTHING, "certificates": [files]}
    reader = host_state.Reader(wanted, str(tmp_path), str(tmp_path / "docker.sock"))
    found = reader.read()["certificates"]
    assert list(found) == [str(certificate)]
    assert found[str(certificate)]["problem"] == ""
    assert found[str(certificate)]["names"] == ["llm.example.com", "192.0.2.7"]
    assert key.read_text().splitlines()[1] not in json.dumps(found)


# -- packages and units --------------------------------------------------------------------------


DPKG = """\
docker.io installed 26.1.5+dfsg1-9 hold ok
nginx config-files 1.26.3-3 deinstall ok
nvidia-modprobe installed 580.178.04-1 hold ok
nvidia-kernel-open-dkms half-configured 580.178.04-1 install ok
nvidia-driver-cuda unpacked 580.178.04-1 install ok
libcuda1 half-installed 580.178.04-1 install reinstreq
libnvidia-ml1 installed 580.178.04-1 install reinstreq
dbus triggers-pending 1.16 install ok
"""


def test_only_installed_packages_have_a_version(programs: Path) -> None:
    program(programs, "dpkg-query", f"tr ' ' '\\t' <<'END'\n{DPKG}END")
    known = host.known_packages()
    assert host.packages(["docker.io", "nginx", "absent"], known) == {
        "docker.io": "26.1.5+dfsg1-9",
        "nginx": None,
        "absent": None,
    }


def test_a_glob_stands_for_the_installed_packages_that_it_matches(programs: Path) -> None:
    program(programs, "dpkg-query", f"tr ' ' '\\t' <<'END'\n{DPKG}END")
    known = host.known_packages()
    assert host.packages(["nvidia-*", "lib*1", "nginx*", "none-*", "nvidia-smi"], known) == {
        "nvidia-modprobe": "580.178.04-1",
        "libnvidia-ml1": "580.178.04-1",
        "nvidia-smi": None,
    }


def test_held_and_half_installed_packages_are_told(programs: Path) -> None:
    program(programs, "dpkg-query", f"tr ' ' '\\t' <<'END'\n{DPKG}END")
    known = host.known_packages()
    assert host.held(known) == ["docker.io", "nvidia-modprobe"]
    assert host.unfinished(known) == [
        "libcuda1",
        "libnvidia-ml1",
        "nvidia-driver-cuda",
        "nvidia-kernel-open-dkms",
    ]


def test_no_program_is_run_for_nothing(programs: Path, tmp_path: Path) -> None:
    program(programs, "systemctl", f"touch {tmp_path}/ran")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert host.services([], str(tmp_path)) == {}
    assert not (tmp_path / "ran").exists()


SYSTEMCTL = """
[ "$TZ $LC_ALL" = "UTC C" ] || exit 9
if [ "$1" = --version ]; then echo 'systemd 252 (252.39-1~deb12u2)'; exit; fi
cat <<END
MainPID=812
NRestarts=3
Names=docker.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
ActiveEnterTimestamp=Sat 2026-11-21 04:57:31 UTC

Names=reboot.target ctrl-alt-del.target
LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=disabled
ActiveEnterTimestamp=

MainPID=0
NRestarts=0
Names=vllm@a.service
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
ActiveEnterTimestamp=
END
"""


def test_units_are_found_by_any_of_their_names(programs: Path, tmp_path: Path) -> None:
    program(programs, "systemctl", SYSTEMCTL)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    found = host.services(["docker", "ctrl-alt-del.target", "vllm@a.service"], str(tmp_path))
    assert found["docker"] == {
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "enabled": "enabled",
        "main_pid": 812,
        "active_enter": 1795237051,
        "n_restarts": 3,
        "need_daemon_reload": False,
    }
    assert found["ctrl-alt-del.target"]["enabled"] == "disabled"
    assert found["vllm@a.service"]["load"] == "not-found"
    assert found["vllm@a.service"]["active_enter"] is None
    assert host.systemd_version(str(tmp_path)) == 252


def test_without_a_running_systemd_units_are_not_found(programs: Path, tmp_path: Path) -> None:
    program(programs, "systemctl", SYSTEMCTL)
    assert host.services(["docker"], str(tmp_path))["docker"]["load"] == "not-found"
    assert host.systemd_version(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Thu 1970-01-01 00:00:01 UTC", 1),
        ("Sat 2026-11-21 04:57:31 UTC", 1795237051),
        ("", None),
        ("n/a", None),
        ("Sat 2026-11-21 05:57:31 CET", None),
    ],
)
def test_timestamps_of_systemctl(text: str, seconds: int | None) -> None:
    assert host.epoch(text) == seconds


# -- paths ---------------------------------------------------------------------------------------


def test_paths_are_described_without_following_links(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    file.chmod(0o640)
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    state = host.path_state(str(file))
    assert state["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert (state["exists"], state["type"], state["mode"], state["size"]) == (
        True,
        "file",
        "0640",
        7,
    )
    assert state["owner"] == pwd.getpwuid(os.getuid()).pw_name
    assert host.path_state(str(tmp_path / "link"))["target"] == "nowhere"
    assert host.path_state(str(tmp_path))["type"] == "directory"
    assert host.path_state(str(tmp_path / "pipe"))["type"] == "other"
    assert host.path_state(str(file / "below"))["exists"] is False
    assert len({tuple(host.path_state(str(path))) for path in (file, tmp_path / "missing")}) == 1


def test_large_files_are_not_hashed(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 1024 * 1024)
    state = host.path_state(str(tmp_path / "large"))
    assert (state["size"], state["sha256"]) == (1024 * 1024, None)


def test_reading_tells_missing_from_unreadable(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("é\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    assert host.read_text(str(tmp_path / "text")) == "é\n"
    assert host.read_text(str(tmp_path / "missing")) is None
    for name, says in (("binary", "not UTF-8"), ("large", "1 MiB"), ("", "Is a directory")):
        with pytest.raises(host.HostStateError, match=says):
            host.read_text(str(tmp_path / name))


def test_disks_are_those_of_the_nearest_existing_parent(tmp_path: Path) -> None:
    state = host.disk(str(tmp_path / "a/b/c"))
    assert state["path"] == str(tmp_path)
    assert 0 < state["free_bytes"] <= state["total_bytes"]
    assert state["device"] == host.disk(str(tmp_path))["device"]


# -- hardware and CDI ----------------------------------------------------------------------------


def test_gpus_are_counted_by_vendor_and_class(tmp_path: Path) -> None:
    devices = {
        "0000:01:00.0": ("0x10de", "0x030000"),  # a graphics card
        "0000:02:00.0": ("0x10de", "0x030200"),  # a data centre GPU
        "0000:01:00.1": ("0x10de", "0x040300"),  # the audio device of the card
        "0000:03:00.0": ("0x10de", "0x068000"),  # an NVSwitch
        "0000:04:00.0": ("0x1a03", "0x030000"),  # the graphics of the board
    }
    for address, (vendor, kind) in devices.items():
        directory = tmp_path / "sys/bus/pci/devices" / address
        write(directory / "vendor", f"{vendor}\n")
        write(directory / "class", f"{kind}\n")
        write(directory / "device", "0x2330\n")
    (tmp_path / "sys/bus/pci/devices/0000:05:00.0").mkdir()
    found = host.nvidia_devices(str(tmp_path))
    assert host.display_controllers(found) == 2
    assert len(found) == 4
    assert found[-1] == {"address": "0000:03:00.0", "device": "2330", "class": "068000"}


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    write(tmp_path / "proc/meminfo", "MemTotal:  1024 kB\nMemFree: 1 kB\nMemAvailable:  512 kB\n")
    assert host.memory(str(tmp_path)) == {"total_bytes": 1048576, "available_bytes": 524288}


NVIDIA_CTK = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
    - path: /dev/nvidiactl
  hooks:
    - args: [nvidia-cdi-hook]
      name: not-a-device
devices:
    - containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
              name: not-a-device
      name: "0"
    - containerEdits:
        env:
            - name: X
      name: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77  # by UUID

    - name: 'all'
      containerEdits:
        deviceNodes: []
kind: nvidia.com/gpu
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (NVIDIA_CTK, ["0", "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "all"]),
        ("kind: nvidia.com/gpu\ndevices:\n- name: '0'\n  x: 1\n- x: 1\n  name: a\n", ["0", "a"]),
        ("kind: nvidia.com/gpu\ndevices:\n- x:\n  - name: no\n  name: yes\n", ["yes"]),
        ('{"kind": "nvidia.com/gpu", "devices": [{"name": "0"}]}', ["0"]),
        ("kind: nvidia.com/gpu\ndevices: []\n", []),
        ("devices:\n- name: a\n", []),
        ("name: a\nkind: nvidia.com/gpu\nother:\n- name: b\n", []),
        ('{"kind": "x"}', []),
        ("[]", []),
        ("", []),
    ],
)
def test_cdi_specifications(text: str, names: list[str]) -> None:
    assert host.cdi_names(text) == [f"nvidia.com/gpu={name}" for name in names]


def test_cdi_directories_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "etc/cdi/nvidia.yaml", NVIDIA_CTK)
    write(tmp_path / "var/run/cdi/a.json", '{"kind": "a/b", "devices": [{"name": "0"}]}')
    write(tmp_path / "etc/cdi/ignored.txt", NVIDIA_CTK)
    names = host.cdi_devices(str(tmp_path))
    assert len(names) == 4
    assert names[0] == "a/b=0"
    assert names[1] == "nvidia.com/gpu=0"


# -- ports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_listeners_are_told_with_their_process(family: int, address: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback address")
        listener.listen()
        port = listener.getsockname()[1]
        expected = {"address": address, "port": port, "protocol": "tcp"}
        with open("/proc/self/comm") as comm:
            process = comm.read().strip()
        asked = [entry for entry in host.listening([port]) if entry["port"] == port]
        assert asked == [{**expected, "pid": os.getpid(), "process": process}]
        unasked = [entry for entry in host.listening([]) if entry["port"] == port]
        assert unasked == [{**expected, "pid": None, "process": None}]
    assert port not in [entry["port"] for entry in host.listening([port])]


# -- Docker --------------------------------------------------------------------------------------

DIGEST = "sha256:" + "2b" * 32
REFERENCE = f"docker.io/vllm/vllm:v1@{DIGEST}"
LOCAL = f"localhost/vllm/vllm:{DIGEST[7:]}"
IMAGE = {
    "Id": "sha256:1a",
    "RepoTags": [LOCAL],
    "RepoDigests": [f"vllm/vllm@{DIGEST}"],
    "Size": 7,
    "Other": 1,
}
CONTAINER = {
    "Id": "3c",
    "Image": "sha256:1a",
    "Config": {"Image": "vllm@sha256:2b"},
    "State": {"Status": "running", "StartedAt": "2026-11-21T04:57:31.5Z"},
    "RestartCount": 2,
}


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A Docker Engine that knows one image and one container."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.requests: list[str] = []
        self.answers: dict[str, t.Any] = {
            "/version": {"Version": "26.1.5", "ApiVersion": "1.45"},
            "/info": {
                "Driver": "overlay2",
                "DockerRootDir": "/var/lib/docker",
                "CDISpecDirs": ["/etc/cdi"],
            },
            f"/images/{REFERENCE}/json": IMAGE,
            "/containers/vllm-a/json": CONTAINER,
        }
        super().__init__(path, Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        answer = self.server.answers.get(self.path)
        status = answer if isinstance(answer, int) else 200 if answer else 404
        body = json.dumps(answer if status == 200 else {"message": "sorry"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *arguments: t.Any) -> None:  # noqa: A002
        """Keep the output of the tests clean."""


@pytest.fixture
def engine(tmp_path: Path) -> t.Iterator[Engine]:
    server = Engine(str(tmp_path / "docker.sock"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_docker_images_and_containers(engine: Engine, tmp_path: Path) -> None:
    wanted = {**NOTHING, "images": [REFERENCE, "none"], "containers": ["vllm-a", "vllm-b"]}
    state = host_state.Reader(wanted, str(tmp_path), str(tmp_path / "docker.sock")).read()
    assert state["docker"] == {
        "socket": True,
        "version": "26.1.5",
        "api_version": "1.45",
        "storage_driver": "overlay2",
        "root_dir": "/var/lib/docker",
        "cdi": True,
    }
    assert state["images"] == {
        REFERENCE: {
            "id": "sha256:1a",
            "repo_digests": [f"vllm/vllm@{DIGEST}"],
            "digest": DIGEST,
            "local": LOCAL,
            "size": 7,
        },
        "none": None,
    }
    assert state["containers"] == {
        "vllm-a": {
            "id": "3c",
            "image": "sha256:1a",
            "labels": {},
            "config_image": "vllm@sha256:2b",
            "state": "running",
            "started_at": "2026-11-21T04:57:31.5Z",
            "restart_count": 2,
        },
        "vllm-b": None,
    }


def image(engine: Engine, reference: str, answers: dict[str, t.Any]) -> tuple[str, str]:
    """Digest and local name of an image, where Docker knows these."""
    engine.answers = {f"/images/{name}/json": answer for name, answer in answers.items()}
    found = host.Docker(str(engine.server_address)).image(reference)
    assert found is not None
    return found["digest"], found["local"]


def test_a_loaded_image_is_found_by_its_local_name(engine: Engine) -> None:
    loaded = {**IMAGE, "RepoDigests": []}
    assert image(engine, REFERENCE, {LOCAL: loaded}) == (DIGEST, LOCAL)
    assert [REFERENCE in engine.requests[0], LOCAL in engine.requests[1]] == [True, True]


@pytest.mark.parametrize(
    ("reference", "changes", "expected"),
    [
        (REFERENCE, {"RepoTags": []}, (DIGEST, "")),
        (REFERENCE, {"RepoTags": None}, (DIGEST, "")),
        ("docker.io/vllm/vllm:v1", {}, (DIGEST, LOCAL)),
        ("docker.io/vllm/vllm:v1", {"RepoTags": ["vllm/vllm:v1"]}, (DIGEST, "")),
        ("docker.io/vllm/vllm:v1", {"RepoDigests": []}, ("", "")),
        ("docker.io/vllm/vllm:v1", {"RepoDigests": None, "RepoTags": None}, ("", "")),
    ],
)
def test_an_image_knows_whether_it_has_its_local_name(
    engine: Engine, reference: str, changes: dict[str, t.Any], expected: tuple[str, str]
) -> None:
    assert image(engine, reference, {reference: {**IMAGE, **changes}}) == expected


def test_a_local_name_counts_whatever_other_registries_call_the_image(engine: Engine) -> None:
    """The same layers may have been pushed elsewhere, packed in another way."""
    elsewhere = {**IMAGE, "RepoDigests": ["mirror.example/vllm@sha256:" + "3c" * 32]}
    assert image(engine, REFERENCE, {LOCAL: elsewhere}) == (DIGEST, LOCAL)


@pytest.mark.parametrize("directories", [[], None])
def test_cdi_is_off_without_directories(
    engine: Engine, tmp_path: Path, directories: list[str] | None
) -> None:
    engine.answers["/info"]["CDISpecDirs"] = directories
    assert host.Docker(str(tmp_path / "docker.sock")).engine()["cdi"] is False


def test_a_broken_answer_of_docker_is_an_error(engine: Engine, tmp_path: Path) -> None:
    engine.answers["/images/b/json"] = 500
    with pytest.raises(host.HostStateError, match=r"/images/b/json: .* 500: sorry"):
        host.Docker(str(tmp_path / "docker.sock")).image("b")


def test_a_dead_docker_is_a_warning_and_asked_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "docker.sock"))
    reader = host_state.Reader(
        {**NOTHING, "images": ["a"]}, str(tmp_path), str(tmp_path / "docker.sock")
    )
    state = reader.read()
    assert (state["docker"]["socket"], state["docker"]["version"]) == (True, None)
    assert state["images"] == {"a": None}
    assert len(reader.warnings) == 1
    assert "refused" in reader.warnings[0]


# -- instances -----------------------------------------------------------------------------------


def test_instances_are_found_with_their_releases(tmp_path: Path) -> None:
    for release, image in (("aa", "vllm@sha256:1"), ("bb", "vllm@sha256:2")):
        directory = tmp_path / "gpt/releases" / release
        directory.mkdir(parents=True)
        (directory / "release.json").write_text(
            json.dumps(
                {
                    "id": release,
                    "image": image,
                    "publish": f"127.0.0.1:{release}",
                    "weights": [f"/store/{release}", "/store/draft"],
                }
            )
        )
    (tmp_path / "gpt/current").symlink_to("releases/bb")
    (tmp_path / "gpt/releases/half-staged").mkdir()
    (tmp_path / "models/hub").mkdir(parents=True)
    assert host.instances(str(tmp_path)) == [
        {
            "name": "gpt",
            "directory": str(tmp_path / "gpt"),
            "current": "bb",
            "replica_of": None,
            "proved_at": None,
            "publish": "127.0.0.1:bb",
            "releases": ["aa", "bb"],
            "images": ["vllm@sha256:1", "vllm@sha256:2"],
            "weights": ["/store/aa", "/store/bb", "/store/draft"],
        }
    ]
    assert host.instances(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("named", "further"),
    [
        ({"image": LOCAL, "reference": "docker.io/vllm/vllm:v1"}, f"docker.io/vllm/vllm@{DIGEST}"),
        ({"image": f"docker.io/vllm/vllm@{DIGEST}"}, LOCAL),
    ],
    ids=["by its local name", "of an earlier collection"],
)
def test_an_instance_knows_all_names_of_its_images(
    tmp_path: Path, named: dict[str, str], further: str
) -> None:
    write(tmp_path / "gpt/releases/aa/release.json", json.dumps({"id": "aa", **named}))
    (found,) = host.instances(str(tmp_path))
    assert set(found["images"]) == {*named.values(), further}


def test_units_and_containers_of_the_instances_found_are_read_too(tmp_path: Path) -> None:
    """Replicas have names that only the plan knows, and the plan comes later."""
    directory = tmp_path / "gpt-2/releases/aa"
    directory.mkdir(parents=True)
    (directory / "release.json").write_text(
        json.dumps({"id": "aa", "image": "vllm@sha256:1", "replica_of": "gpt"})
    )
    wanted = {**NOTHING, "instances_directory": str(tmp_path), "services": ["vllm@gpt.service"]}
    state = host_state.Reader(wanted, str(tmp_path), str(tmp_path / "docker.sock")).read()
    assert state["instances"][0]["replica_of"] == "gpt"
    assert list(state["services"]) == ["vllm@gpt.service", "vllm@gpt-2.service"]
    assert state["containers"] == {"vllm-gpt-2": None}


def test_processes_on_the_ports_of_the_instances_found_are_looked_up(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        directory = tmp_path / "gpt-2/releases/aa"
        described = {"id": "aa", "image": "vllm@sha256:1", "publish": f"127.0.0.1:{port}"}
        write(directory / "release.json", json.dumps(described))
        (tmp_path / "gpt-2/current").symlink_to("releases/aa")
        wanted = {**NOTHING, "instances_directory": str(tmp_path), "ports": [1]}
        state = host_state.Reader(wanted, docker_socket=str(tmp_path / "docker.sock")).read()
        (found,) = [entry for entry in state["listening"] if entry["port"] == port]
        assert found["pid"] == os.getpid()


def test_ports_of_instances_in_force() -> None:
    found = [{"publish": "127.0.0.1:8000"}, {"publish": None}, {"publish": "[::1]:8001"}]
    assert host.published_ports(found) == [8000, 8001]


# -- models --------------------------------------------------------------------------------------


def test_a_model_is_its_configuration_and_the_weights_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "config.json", '{"model_type": "gpt_oss"}')
    write(tmp_path / "model-1.safetensors", "x" * 100)
    write(tmp_path / "model-2.safetensors", "x" * 50)
    write(tmp_path / "pytorch_model.bin", "x" * 7)
    write(tmp_path / "original/model.safetensors", "x" * 999)
    assert host.model_config(str(tmp_path)) == {
        "config": {"model_type": "gpt_oss"},
        "checkpoint_bytes": 150,
    }


@pytest.mark.parametrize("content", ["not JSON", "[1]", None], ids=["text", "list", "missing"])
def test_a_model_without_a_configuration_is_an_answer(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        write(tmp_path / "config.json", content)
    assert host.model_config(str(tmp_path)) == {"config": None, "checkpoint_bytes": 0}


def test_processors_are_listed_by_numa_node(tmp_path: Path) -> None:
    for node, cpus in (("node0", "0-31"), ("node1", "32-63"), ("node2", "")):  # 2: memory alone
        directory = tmp_path / "sys/devices/system/node" / node
        directory.mkdir(parents=True)
        (directory / "cpulist").write_text(f"{cpus}\n")
    assert host.numa_cpus(str(tmp_path)) == {"0": "0-31", "1": "32-63"}
