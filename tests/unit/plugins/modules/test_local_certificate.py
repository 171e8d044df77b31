# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""The authority of a host and the certificate that it signs, made by the real openssl."""

from __future__ import annotations

import json
import os
import ssl
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set
from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import (
    certificate_state,
    presented,
    server_context,
    trusting,
)
from ansible_collections.baremetal.vllm.plugins.modules import local_certificate
from ansible_collections.baremetal.vllm.tests.unit.authority_in_tmp import Authority

DAY = 86400
NAMES = ["llm.home.arpa", "192.0.2.7", "2001:db8::7"]


class Host:
    """A directory of a host, and the module run on it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def run(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"directory": str(self.directory), "names": NAMES, **arguments}
        internal = {"_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args({**given, **internal}), pytest.raises(SystemExit):
            local_certificate.main()
        result: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return result

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def state(self) -> dict[str, Any]:
        server = str(self.directory / "server.pem")
        return certificate_state(server, server)


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    return Host(tmp_path / "tls", capsys)


def as_a_client_sees_it(host: Host, name: str) -> None:
    """Shake hands as a client that trusts ca.pem; raises where it would not go on."""
    server = str(host.directory / "server.pem")
    client = trusting(host.read("ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert presented(server, server_context(server, server), client)
    assert name in [str(found).lower() for found in host.state()["names"]]


def test_a_server_gets_a_certificate_for_its_names(host: Host) -> None:
    result = host.run()
    assert result["changed"] is True
    assert result["authority"] == str(host.directory / "ca.pem")
    as_a_client_sees_it(host, "llm.home.arpa")
    state = host.state()
    assert state["names"] == ["llm.home.arpa", "192.0.2.7", "2001:db8::7"]
    assert state["not_after"] == pytest.approx(time.time() + 825 * DAY, abs=DAY)


def test_a_second_run_changes_nothing(host: Host) -> None:
    first = host.run()
    again = host.run()
    assert (again["changed"], again["reasons"], again["diff"]) == (False, [], [])
    assert again["fingerprint"] == first["fingerprint"] != ""


def test_keys_are_for_their_owner_only(host: Host) -> None:
    host.run()
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in sorted(host.directory.iterdir())
    }
    assert modes == {"authority.pem": 0o600, "ca.pem": 0o644, "server.pem": 0o600}
    assert "PRIVATE KEY" not in host.read("ca.pem")


def test_a_key_that_others_could_read_is_closed_again(host: Host) -> None:
    host.run()
    os.chmod(host.directory / "server.pem", 0o644)
    before = host.read("server.pem")
    assert host.run()["changed"] is True
    assert stat.S_IMODE((host.directory / "server.pem").stat().st_mode) == 0o600
    assert host.read("server.pem") == before


def test_no_key_is_in_a_result_or_a_diff(host: Host) -> None:
    told = json.dumps(host.run())
    secret = [line for line in host.read("server.pem").splitlines() if len(line) > 40]
    assert secret
    assert [line for line in secret if line in told] == []
    assert "content changed (not shown)" in told


def test_other_names_get_another_certificate_of_the_same_authority(host: Host) -> None:
    host.run()
    authority = host.read("ca.pem")
    result = host.run(names=["api.home.arpa"])
    assert result["reasons"] == [
        f"{host.directory}/server.pem is for llm.home.arpa, 192.0.2.7, 2001:db8::7"
    ]
    assert result["authority_changed"] is False
    assert host.read("ca.pem") == authority
    assert host.state()["names"] == ["api.home.arpa"]


def test_the_same_names_in_another_order_change_nothing(host: Host) -> None:
    host.run()
    assert host.run(names=[*reversed(NAMES[:2]), "2001:DB8::7"])["changed"] is False


def test_a_certificate_is_made_anew_in_time_and_the_authority_is_kept(host: Host) -> None:
    host.run()
    authority = host.read("ca.pem")
    result = host.run(renew_days=826)
    assert result["reasons"] == [f"{host.directory}/server.pem expires in 824 days"]
    assert host.read("ca.pem") == authority


def test_an_authority_near_its_end_is_made_anew_with_all_it_signed(host: Host) -> None:
    first = host.run()
    result = host.run(renew_days=3651)
    assert result["reasons"] == [f"{host.directory}/authority.pem expires in 3649 days"]
    assert result["authority_changed"] is True
    assert result["fingerprint"] != first["fingerprint"]
    as_a_client_sees_it(host, "llm.home.arpa")


@pytest.mark.parametrize("name", ["authority.pem", "server.pem"])
@pytest.mark.parametrize("harm", ["gone", "empty", "cut"])
def test_what_is_damaged_is_made_anew(host: Host, name: str, harm: str) -> None:
    host.run()
    path = host.directory / name
    if harm == "gone":
        path.unlink()
    else:
        path.write_text("" if harm == "empty" else path.read_text()[:300])
    result = host.run()
    assert result["changed"] is True
    assert len(result["reasons"]) == 1
    assert result["reasons"][0].startswith(f"{path} ")
    as_a_client_sees_it(host, "llm.home.arpa")
    assert host.run()["changed"] is False


def test_a_certificate_of_another_authority_is_made_anew(host: Host, tmp_path: Path) -> None:
    host.run()
    certificate, key = Authority(tmp_path / "other").sign("llm", "DNS:llm.home.arpa")
    (host.directory / "server.pem").write_text(key.read_text() + certificate.read_text())
    result = host.run(names=["llm.home.arpa"])
    assert result["reasons"] == [f"{host.directory}/server.pem is of another authority"]
    as_a_client_sees_it(host, "llm.home.arpa")


def test_the_copy_for_clients_follows_the_authority(host: Host) -> None:
    host.run()
    before = host.read("ca.pem")
    (host.directory / "ca.pem").write_text("something else\n")
    assert host.run()["changed"] is True
    assert host.read("ca.pem") == before


@pytest.mark.parametrize("killed_after", ["authority.pem", "ca.pem"])
def test_a_run_that_is_killed_leaves_a_pair_that_fits(
    host: Host, monkeypatch: pytest.MonkeyPatch, killed_after: str
) -> None:
    """At worst the server's pair is of the authority before, and the next run makes another."""
    host.run()
    rename = os.rename

    def killed(source: str, target: str) -> None:
        rename(source, target)
        if os.path.basename(target) == killed_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            host.run(renew_days=3651)
    assert host.state()["problem"] == ""
    assert host.run()["changed"] is True
    as_a_client_sees_it(host, "llm.home.arpa")
    assert host.run()["changed"] is False


def test_check_mode_tells_all_of_a_virgin_host_and_makes_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    host.directory = tmp_path / "missing/deeper/tls"
    result = host.run(check=True)
    assert result["changed"] is True
    assert result["reasons"] == [f"{host.directory}/authority.pem is not there"]
    assert result["fingerprint"] == ""
    assert not host.directory.exists()


def test_check_mode_tells_nothing_of_a_converged_host(host: Host) -> None:
    made = host.run()
    result = host.run(check=True)
    assert (result["changed"], result["fingerprint"]) == (False, made["fingerprint"])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "names is empty; name what clients will ask for."),
        (
            ["a,DNS:evil.example.com"],
            "names has 'a,DNS:evil.example.com', which is neither a DNS name nor an IP address.",
        ),
        (
            ["*.home.arpa"],
            "names has '*.home.arpa', which is neither a DNS name nor an IP address.",
        ),
        (["a\nb"], r"names has 'a\nb', which is neither a DNS name nor an IP address."),
    ],
)
def test_what_is_no_name_is_refused(host: Host, names: list[str], sentence: str) -> None:
    result = host.run(names=names)
    assert (result["failed"], result["msg"]) == (True, sentence)
    assert not host.directory.exists()


def test_a_host_without_openssl_is_told_what_to_install(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        local_certificate.AnsibleModule, "get_bin_path", lambda *_arguments, **_options: None
    )
    result = host.run()
    assert result["failed"] is True
    assert "install the package openssl" in result["msg"]


def test_what_openssl_says_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "openssl"
    program.write_text("#!/bin/sh\necho 'no entropy today' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(
        local_certificate.AnsibleModule, "get_bin_path", lambda *_arguments: str(program)
    )
    result = host.run()
    assert result["msg"] == "openssl req failed; it said: no entropy today"
    assert not host.directory.exists()


def test_a_disk_that_refuses_leaves_the_pair_that_was_there(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.run()
    before = host.read("server.pem")

    def refuse(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_file_set._Installation, "_write", refuse)
        result = host.run(renew_days=826)
    assert "No space left on device" in result["msg"]
    assert host.read("server.pem") == before
