# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026 baremetal.vllm contributors
"""What is told of a server's certificate, on files that openssl has made."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils._certificate import certificate_state
from ansible_collections.baremetal.vllm.tests.unit.authority_in_tmp import Authority, openssl

DAY = 86400


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.sign("good", "DNS:llm.example.com,DNS:*.example.net,IP:192.0.2.7,IP:2001:db8::7")
    made.sign("other")
    return made


def state(certificate: Path | str, key: Path | str) -> dict[str, Any]:
    return certificate_state(str(certificate), str(key))


def test_a_certificate_is_told_with_its_names_and_times(authority: Authority) -> None:
    found = state(*authority.paths("good"))
    assert found["problem"] == ""
    assert found["exists"] is True
    assert found["names"] == [
        "llm.example.com",
        "*.example.net",
        "192.0.2.7",
        "2001:db8::7",
    ]
    assert (found["subject"], found["issuer"]) == ("good", "Test Authority")
    assert found["not_before"] == pytest.approx(time.time() - DAY, abs=60)
    assert found["not_after"] == pytest.approx(time.time() + 90 * DAY, abs=60)
    assert found["now"] == pytest.approx(time.time(), abs=60)


def test_the_chain_may_stand_behind_it_and_the_key_in_the_same_file(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.paths("good")
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text() + authority.certificate.read_text())
    assert state(both, both)["problem"] == ""
    assert state(both, both)["subject"] == "good"


def test_a_chain_is_told_from_its_first_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.paths("good")
    files = [certificate, authority.certificate]
    binary = tmp_path / "binary"
    ders = []
    for file in files:
        openssl("x509", "-in", file, "-outform", "der", "-out", binary)
        ders.append(binary.read_bytes())
    leaf, chain = (hashlib.sha256(content).hexdigest() for content in (ders[0], b"".join(ders)))

    served = tmp_path / "served.pem"
    served.write_text(certificate.read_text())
    alone = state(served, key)
    assert (alone["fingerprint"], alone["chain_fingerprint"]) == (leaf, leaf)
    served.write_text("".join(file.read_text() for file in files))
    repaired = state(served, key)
    assert (repaired["fingerprint"], repaired["chain_fingerprint"]) == (leaf, chain)
    served.write_text("".join(file.read_text() for file in (key, *files)))
    assert state(served, served)["chain_fingerprint"] == chain


@pytest.mark.parametrize(
    ("from_days", "to_days"), [(-20, -10), (10, 20)], ids=["expired", "not yet valid"]
)
def test_times_are_told_of_one_that_does_not_hold_now(
    authority: Authority, from_days: int, to_days: int
) -> None:
    found = state(*authority.sign("untimely", from_days=from_days, to_days=to_days))
    assert found["problem"] == ""
    assert found["not_before"] == pytest.approx(time.time() + from_days * DAY, abs=60)
    assert found["not_after"] == pytest.approx(time.time() + to_days * DAY, abs=60)


def test_links_are_followed(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.paths("good")
    (tmp_path / "live").mkdir()
    links = tmp_path / "live/fullchain.pem", tmp_path / "live/privkey.pem"
    links[0].symlink_to(certificate)
    links[1].symlink_to(key)
    assert state(*links)["resolved"] == [str(certificate), str(key)]


def test_nothing_of_the_key_is_told(authority: Authority) -> None:
    certificate, key = authority.paths("good")
    told = json.dumps(state(certificate, key))
    lines = [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    assert lines
    assert [line for line in lines if line in told] == []


# -- what is wrong -------------------------------------------------------------------------------


def test_a_key_of_another_certificate(authority: Authority) -> None:
    _certificate, key = authority.paths("other")
    assert state(authority.paths("good")[0], key)["problem"] == f"{key} is not of that certificate"


def test_a_key_of_another_kind(authority: Authority, tmp_path: Path) -> None:
    key = tmp_path / "rsa.key"
    openssl("genrsa", "-out", key, "2048")
    assert state(authority.paths("good")[0], key)["problem"] == f"{key} is not of that certificate"


def test_an_authority_in_front_of_the_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.paths("good")
    chain = tmp_path / "chain.pem"
    chain.write_text(authority.certificate.read_text() + certificate.read_text())
    assert state(chain, key)["problem"] == f"{key} is not of that certificate"


def test_an_encrypted_key(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.paths("good")
    locked = tmp_path / "locked.key"
    openssl("ec", "-in", key, "-aes128", "-passout", "pass:secret", "-out", locked)
    assert state(certificate, locked)["problem"] == (
        f"{locked} is encrypted, and nginx starts without a passphrase"
    )


@pytest.mark.parametrize("missing", [0, 1], ids=["certificate", "key"])
def test_a_file_that_is_not_there(authority: Authority, tmp_path: Path, missing: int) -> None:
    files = list(authority.paths("good"))
    files[missing] = tmp_path / "gone.pem"
    found = state(*files)
    assert found["problem"] == f"{files[missing]} is not there"
    assert found["exists"] is False


@pytest.mark.parametrize("directory", [0, 1], ids=["certificate", "key"])
def test_a_directory(authority: Authority, tmp_path: Path, directory: int) -> None:
    files = list(authority.paths("good"))
    files[directory] = tmp_path
    assert state(*files)["problem"] == f"{tmp_path} cannot be read: is a directory"


@pytest.mark.parametrize("text", ["", "hello\n", "-----BEGIN CERTIFICATE-----\nMIIB"])
def test_a_file_without_a_certificate(authority: Authority, tmp_path: Path, text: str) -> None:
    certificate = tmp_path / "text.pem"
    certificate.write_text(text)
    assert state(certificate, authority.paths("good")[1])["problem"] == (
        f"{certificate} holds no certificate in PEM"
    )


def test_a_certificate_that_was_cut(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.paths("good")
    lines = certificate.read_text().splitlines()
    cut = tmp_path / "cut.pem"
    cut.write_text("\n".join([*lines[:3], *lines[5:]]) + "\n")
    assert state(cut, key)["problem"] == f"{cut} holds a certificate that cannot be read"


@pytest.mark.parametrize("text", ["", "hello\n"])
def test_a_file_without_a_key(authority: Authority, tmp_path: Path, text: str) -> None:
    key = tmp_path / "text.key"
    key.write_text(text)
    assert state(authority.paths("good")[0], key)["problem"] == (
        f"{key} holds no private key in PEM, or the chain in front of it is damaged"
    )


def test_a_certificate_for_clients(authority: Authority) -> None:
    certificate, key = authority.sign("client", purpose="clientAuth")
    # The words are those of OpenSSL, and not the same in all releases.
    assert re.fullmatch(
        f"{certificate} is not accepted: unsu(itable|pported) certificate purpose",
        state(certificate, key)["problem"],
    )


def test_a_key_too_weak_for_the_library(tmp_path: Path) -> None:
    certificate, key = tmp_path / "weak.pem", tmp_path / "weak.key"
    openssl(
        *("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", key, "-out", certificate),
        *("-days", "9", "-subj", "/CN=weak"),
    )
    assert state(certificate, key)["problem"] == (
        f"{certificate} is refused by the TLS library: ee key too small"
    )


def test_neither_a_program_nor_a_package_is_needed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shutil.which("openssl")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert state(*authority.paths("good"))["problem"] == ""
