# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Read public keys of OpenPGP as apt uses them, so that a host needs no gpg to check one.

Fingerprints are computed from the key itself, so a key that has an allowed fingerprint is the
key that was meant. Nothing here verifies a signature: that is apt's part.

Source: RFC 9580 (packets: section 4, armor: 6, fingerprints: 5.5.4, signatures: 5.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import typing as t
from dataclasses import dataclass

_SIGNATURE, _SECRET_KEY, _PUBLIC_KEY, _SECRET_SUBKEY = 2, 5, 6, 7
_USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE = 13, 14, 17
# What apt needs of a key. The trust of a local keyring (tag 12), for one, is left out.
_KEPT = (_SIGNATURE, _PUBLIC_KEY, _USER_ID, _PUBLIC_SUBKEY, _USER_ATTRIBUTE)
_CERTIFICATIONS = (0x10, 0x11, 0x12, 0x13)  # of a user id
_DIRECT_KEY = 0x1F  # Debian's keys name their revokers in such ones and nothing else
_CREATED, _KEY_EXPIRES, _ISSUER, _ISSUER_FINGERPRINT = 2, 9, 16, 33  # subpackets

_BLOCK = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
_KEYBOX = b"KBXf"  # at the ninth byte of GnuPG's own store, which apt does not read either


class OpenPGPError(Exception):
    """The end of a sentence that says what is wrong with some bytes: `is cut off`."""


@dataclass(frozen=True)
class Key:
    """One primary key with all that belongs to it.

    `expires` is in seconds since the epoch, None for never. It is what the key says of itself.
    """

    fingerprint: str
    user_id: str
    expires: int | None
    content: bytes


@dataclass(frozen=True)
class _Packet:
    tag: int
    body: bytes
    raw: bytes


def read_keys(content: bytes) -> list[Key]:
    """Return the public keys in a keyring, armored or binary, in their order.

    Raises OpenPGPError for what is no keyring of public keys, or only a part of one.
    """
    keys: list[list[_Packet]] = []
    for packet in _packets(_binary(content)):
        if packet.tag in (_SECRET_KEY, _SECRET_SUBKEY):
            raise OpenPGPError("holds a secret key, where a public one is wanted")
        if packet.tag == _PUBLIC_KEY:
            keys.append([])
        if packet.tag in _KEPT:
            if not keys:
                raise OpenPGPError("does not begin with a public key")
            keys[-1].append(packet)
    if not keys:
        raise OpenPGPError("holds no public key")
    return [_key(packets) for packets in keys]


def armored(keys: t.Sequence[Key]) -> bytes:
    """Return one armored block with all the keys.

    One block, as apt of Debian 12 and Ubuntu 22.04 reads no further than the first one's end.
    """
    content = b"".join(key.content for key in keys)
    encoded = base64.b64encode(content)
    lines = [encoded[start : start + 64] for start in range(0, len(encoded), 64)]
    checksum = base64.b64encode(_crc24(content).to_bytes(3, "big"))
    begin, end = b"-----BEGIN PGP PUBLIC KEY BLOCK-----", b"-----END PGP PUBLIC KEY BLOCK-----"
    return b"\n".join([begin, b"", *lines, b"=" + checksum, end, b""])


def _binary(content: bytes) -> bytes:
    """Return the packets, out of their armor where they have one."""
    if content[8:12] == _KEYBOX:
        raise OpenPGPError("is a keybox of GnuPG, where an exported key is wanted")
    if not content.strip():
        raise OpenPGPError("is empty")
    if content[0] & 0x80:
        return content
    blocks = _BLOCK.findall(content)
    if not blocks or len(blocks) != content.count(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"):
        raise OpenPGPError(
            "holds a secret key, where a public one is wanted"
            if b"BEGIN PGP PRIVATE KEY" in content
            else "is cut off before the end of its armor"
            if b"-----BEGIN PGP PUBLIC KEY" in content
            else "is no OpenPGP key"
        )
    return b"".join(_dearmored(block) for block in blocks)


def _dearmored(block: bytes) -> bytes:
    lines = [line.strip() for line in block.splitlines()]
    if b"" in lines:  # headers such as `Version:` end with an empty line
        lines = lines[lines.index(b"") + 1 :]
    checksum = next((line[1:] for line in lines if line.startswith(b"=")), None)
    encoded = b"".join(line for line in lines if not line.startswith(b"="))
    try:
        content = base64.b64decode(encoded, validate=True)
        expected = checksum and int.from_bytes(base64.b64decode(checksum, validate=True), "big")
    except (binascii.Error, ValueError) as error:
        raise OpenPGPError("has a damaged armor") from error
    if checksum and expected != _crc24(content):
        raise OpenPGPError("does not have the checksum that its armor says")
    return content


def _crc24(content: bytes) -> int:
    """Checksum of an armor, RFC 9580 section 6.1.1."""
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _bit in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc & 0xFFFFFF


def _packets(content: bytes) -> t.Iterator[_Packet]:
    position = 0
    while position < len(content):
        start = position
        first = content[position]
        if not first & 0x80:
            raise OpenPGPError("is no OpenPGP key")
        try:
            if first & 0x40:
                tag = first & 0x3F
                length, position = _new_length(content, position + 1)
            else:
                tag = (first & 0x3C) >> 2
                length, position = _old_length(content, position + 1, first & 3)
        except IndexError as error:
            raise OpenPGPError("is cut off") from error
        if position + length > len(content):
            raise OpenPGPError("is cut off")
        body = content[position : position + length]
        position += length
        yield _Packet(tag, body, content[start:position])


def _new_length(content: bytes, position: int) -> tuple[int, int]:
    """Return the length of a body and where the body begins, RFC 9580 section 4.2.1."""
    first = content[position]
    if first < 192:
        return first, position + 1
    if first < 224:
        return ((first - 192) << 8) + content[position + 1] + 192, position + 2
    if first == 255:
        return _number(content, position + 1, 4), position + 5
    raise OpenPGPError("has a packet of no definite length, which keys do not have")


def _old_length(content: bytes, position: int, kind: int) -> tuple[int, int]:
    """The same for the format of section 4.2.2, which keys mostly have."""
    if kind == 3:
        raise OpenPGPError("has a packet of no definite length, which keys do not have")
    size = 1 << kind
    return _number(content, position, size), position + size


def _number(content: bytes, position: int, size: int) -> int:
    if position + size > len(content):
        raise IndexError(position)
    return int.from_bytes(content[position : position + size], "big")


def _key(packets: t.Sequence[_Packet]) -> Key:
    primary = packets[0].body
    fingerprint = _fingerprint(primary)
    names = [packet.body for packet in packets if packet.tag == _USER_ID]
    return Key(
        fingerprint=fingerprint,
        user_id=names[0].decode("utf-8", "replace") if names else "",
        expires=_expiry(packets, fingerprint),
        content=b"".join(packet.raw for packet in packets),
    )


def _fingerprint(body: bytes) -> str:
    """Fingerprint of a public key, in upper case without spaces."""
    version = body[0] if body else 0
    if version == 4:
        hashed = b"\x99" + len(body).to_bytes(2, "big") + body
        # The fingerprint is defined with SHA-1; a host in FIPS mode computes it on these terms.
        return hashlib.sha1(hashed, usedforsecurity=False).hexdigest().upper()
    if version == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise OpenPGPError(f"holds a key of version {version}, where 4 or 6 is wanted")


def _expiry(packets: t.Sequence[_Packet], fingerprint: str) -> int | None:
    """Return when a key ends, by the latest signature that it made on itself before a subkey."""
    created = int.from_bytes(packets[0].body[1:5], "big")
    latest, lifetime = -1, 0
    for packet in packets:
        if packet.tag == _PUBLIC_SUBKEY:
            break
        if packet.tag != _SIGNATURE or packet.body[:1] != b"\x04":
            continue
        if len(packet.body) < 6 or packet.body[1] not in (*_CERTIFICATIONS, _DIRECT_KEY):
            continue
        found = dict(_subpackets(packet.body))
        if packet.body[1] == _DIRECT_KEY and _KEY_EXPIRES not in found:
            continue
        issuer = found.get(_ISSUER_FINGERPRINT, b"\x04")[1:] or found.get(_ISSUER, b"")
        if not issuer or not fingerprint.endswith(issuer.hex().upper()):
            continue
        made = int.from_bytes(found.get(_CREATED, b""), "big")
        if made > latest:
            latest, lifetime = made, int.from_bytes(found.get(_KEY_EXPIRES, b""), "big")
    return created + lifetime if lifetime else None


def _subpackets(signature: bytes) -> t.Iterator[tuple[int, bytes]]:
    """Yield type and value of the subpackets of a version 4 signature, the unhashed first.

    So that a dictionary made of them has the value of a hashed one where both are there.
    """
    hashed = _number(signature, 4, 2)
    unhashed_at = 6 + hashed
    if unhashed_at + 2 > len(signature):
        return
    unhashed = _number(signature, unhashed_at, 2)
    for area in (
        signature[unhashed_at + 2 : unhashed_at + 2 + unhashed],
        signature[6:unhashed_at],
    ):
        position = 0
        while position < len(area):
            try:
                length, position = _new_length(area, position)
            except (IndexError, OpenPGPError):
                return
            value = area[position : position + length]
            position += length
            if value:
                yield value[0] & 0x7F, value[1:]
