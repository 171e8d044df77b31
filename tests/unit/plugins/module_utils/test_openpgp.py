# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Keys that GnuPG made, read without it."""

from __future__ import annotations

import base64
import calendar
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.baremetal.vllm.plugins.module_utils import _openpgp

KEYS = Path(__file__).parent / "keys"
ONE = "D24762E3A8C34C570992FBF392EDB4CC72E747C0"  # RSA, 2048 bits
TWO = "3A29C5EF85C75694386ABDE69536AC6DA1981F59"  # Ed25519
OLD = "2CE4E9E9A40EF3094AA17CFCA1D25681086F8C11"  # of 2020, for one year


def read(name: str) -> bytes:
    return (KEYS / f"{name}.asc").read_bytes()


def binary(name: str) -> bytes:
    return b"".join(key.content for key in _openpgp.read_keys(read(name)))


def fingerprints(content: bytes) -> list[str]:
    return [key.fingerprint for key in _openpgp.read_keys(content)]


@pytest.mark.parametrize(
    ("name", "fingerprint", "user_id"),
    [
        ("vendor_one", ONE, "Vendor one <one@example.org>"),
        ("vendor_two", TWO, "Vendor two <two@example.org>"),
        ("expired", OLD, "Old vendor <old@example.org>"),
    ],
)
def test_fingerprint_and_user_are_those_that_gnupg_tells(
    name: str, fingerprint: str, user_id: str
) -> None:
    (key,) = _openpgp.read_keys(read(name))
    assert (key.fingerprint, key.user_id) == (fingerprint, user_id)


@pytest.mark.skipif(not shutil.which("gpg"), reason="no gpg here to compare with")
@pytest.mark.parametrize("path", sorted(Path("/usr/share/keyrings").glob("*.gpg")), ids=str)
def test_keyrings_of_this_machine_are_read_as_gnupg_reads_them(path: Path, tmp_path: Path) -> None:
    command = ["gpg", "--homedir", str(tmp_path), "--show-keys", "--with-colons", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = [line.split(":") for line in said.splitlines()]
    told: list[tuple[str, int | None]] = []
    for index, line in enumerate(lines):
        if line[0] == "pub":
            (fingerprint, *_of_subkeys) = [each[9] for each in lines[index:] if each[0] == "fpr"]
            told.append((fingerprint, int(line[6]) if line[6] else None))
    read_here = _openpgp.read_keys(path.read_bytes())
    assert [(key.fingerprint, key.expires) for key in read_here] == told


def test_end_of_a_key_is_that_of_its_latest_signature() -> None:
    (expired,) = _openpgp.read_keys(read("expired"))
    (prolonged,) = _openpgp.read_keys(read("prolonged"))
    assert expired.expires == calendar.timegm((2020, 12, 31, 0, 0, 0))
    assert prolonged.fingerprint == expired.fingerprint
    assert prolonged.expires is None  # its subkey ends in 2021, which is not the key's end


def test_keyring_may_be_binary_and_hold_several_keys() -> None:
    both = binary("vendor_one") + binary("vendor_two")
    assert fingerprints(both) == [ONE, TWO]


def test_several_armored_blocks_are_read_and_written_as_one() -> None:
    keys = _openpgp.read_keys(b"A note.\n" + read("vendor_one") + b"\n" + read("prolonged"))
    written = _openpgp.armored(keys)
    assert written.count(b"-----BEGIN") == 1
    assert _openpgp.read_keys(written) == keys


def test_armor_is_the_one_that_gnupg_writes() -> None:
    content = read("vendor_two")
    assert _openpgp.armored(_openpgp.read_keys(content)) == content


def test_armor_may_have_headers_and_line_ends_of_dos() -> None:
    begin = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    content = read("vendor_one").replace(begin, begin + b"Version: GnuPG v1\nComment: old\n")
    assert fingerprints(content.replace(b"\n", b"\r\n")) == [ONE]


def test_what_is_no_part_of_a_public_key_is_left_out() -> None:
    trust = bytes([0x80 | 12 << 2, 2, 6, 0])  # as a local keyring has it behind each key
    (key,) = _openpgp.read_keys(binary("vendor_two") + trust)
    assert key.content == binary("vendor_two")


SECRET = bytes([0x80 | 5 << 2 | 1]) + binary("vendor_one")[1:]
NO_KEY = base64.b64encode(b"not a packet")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<html>Sign in</html>", "is no OpenPGP key"),
        (read("vendor_one")[:500], "is cut off before the end of its armor"),
        (binary("vendor_one")[:200], "is cut off"),
        (binary("vendor_one")[:2], "is cut off"),
        (read("vendor_two").replace(b"mDMEa", b"mDMEb", 1), "does not have the checksum"),
        (read("vendor_two").replace(b"mDME", b"m*ME", 1), "has a damaged armor"),
        (SECRET, "holds a secret key"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "holds a secret key"),
        (b"\0" * 8 + b"KBXf" + b"\0" * 20, "is a keybox of GnuPG"),
        (bytes([0x80 | 13 << 2, 1, 65]), "does not begin with a public key"),
        (bytes([0x80 | 12 << 2, 1, 6]), "holds no public key"),
        (bytes([0x80 | 6 << 2, 1, 3]), "holds a key of version 3"),
        (bytes([0x80 | 6 << 2 | 3, 1, 3]), "of no definite length"),
        (bytes([0xC0 | 6, 0xE1, 3]), "of no definite length"),
    ],
)
def test_what_is_no_keyring_is_told(content: bytes, sentence: str) -> None:
    with pytest.raises(_openpgp.OpenPGPError, match=sentence.replace(".", r"\.")):
        _openpgp.read_keys(content)


@pytest.mark.parametrize("size", [100, 300, 9000])
def test_new_format_of_packets_is_read_too(size: int) -> None:
    user = b"u" * size
    length = (
        bytes([size])
        if size < 192
        else bytes([(size - 192 >> 8) + 192, size - 192 & 255])
        if size < 8384
        else b"\xff" + size.to_bytes(4, "big")
    )
    primary = binary("vendor_two")[: 2 + 51]
    (key,) = _openpgp.read_keys(primary + bytes([0xC0 | 13]) + length + user)
    assert (key.fingerprint, key.user_id) == (TWO, user.decode())
