# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One apt repository: its deb822 file, its keyring, and what older set-ups left of it.

`sources_text` is what the file will say; the controller asks for it too, to tell whether a host
has it. `Cleaner` finds the other entries of the same repository, and `keyring` decides whether the
key on the host will do.
"""

from __future__ import annotations

import os
import re
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field

from ansible_collections.baremetal.vllm.plugins.module_utils._file_set import File, snapshot
from ansible_collections.baremetal.vllm.plugins.module_utils._openpgp import (
    Key,
    OpenPGPError,
    armored,
    read_keys,
)

SOURCES_DIRECTORY = "/etc/apt/sources.list.d"
KEYRINGS_DIRECTORY = "/etc/apt/keyrings"
_SOURCES_LIST = "/etc/apt/sources.list"
_TRUSTED = "/etc/apt/trusted.gpg"
_TRUSTED_DIRECTORY = "/etc/apt/trusted.gpg.d"
# Keyrings that an entry may have named. What lies elsewhere belongs to somebody else.
_KEYRING_DIRECTORIES = (KEYRINGS_DIRECTORY, "/usr/share/keyrings")

# apt reads no file of another name, sources.list(5).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_WORD = re.compile(r"[^\s#\[\]]+")
_URI = re.compile(r"(https?|file|copy|mirror\+https?)://?[^\s#\[\]]+")
_ONE_LINE = re.compile(
    r"\s*(?P<type>deb|deb-src)\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)"
    r"(?P<components>[^#]*)"
)
_OPTION = re.compile(r"([A-Za-z-]+)[+-]?=(\"[^\"]*\"|\S+)")
_OFF = ("no", "false", "without", "off", "disable", "0")  # StringToBool of apt


class AptSourceError(Exception):
    """A sentence for the operator; nothing was changed unless it says otherwise."""


# -- what is wanted ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """A repository as it shall be. `fingerprints` are those of the allowed primary keys."""

    name: str
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    replaced_uris: tuple[str, ...] = ()
    replaced_keys: tuple[str, ...] = ()

    @property
    def sources_path(self) -> str:
        return f"{SOURCES_DIRECTORY}/{self.name}.sources"

    @property
    def keyring_path(self) -> str:
        return f"{KEYRINGS_DIRECTORY}/{self.name}.asc"


def repository(parameters: t.Mapping[str, t.Any]) -> Repository:
    """Turn the module's parameters into a Repository. Raises AptSourceError for senseless ones."""
    name = parameters["name"]
    if not _NAME.fullmatch(name):
        raise AptSourceError(
            f"name is {name!r}; apt reads only files whose names are made of letters, digits, dots,"
            " dashes and underscores."
        )
    replaces = parameters.get("replaces") or {}
    wanted = Repository(
        name=name,
        uris=tuple(parameters.get("uris") or ()),
        suites=tuple(parameters.get("suites") or ()),
        components=tuple(parameters.get("components") or ()),
        architectures=tuple(parameters.get("architectures") or ()),
        fingerprints=_fingerprints("fingerprints", parameters.get("fingerprints") or ()),
        replaced_uris=tuple(text for text in replaces.get("uris") or () if text),
        replaced_keys=_fingerprints("replaces.keys", replaces.get("keys") or ()),
    )
    if parameters.get("state", "present") == "present":
        _reject_incomplete(wanted)
    return wanted


def _fingerprints(parameter: str, given: t.Iterable[str]) -> tuple[str, ...]:
    found = []
    for text in given:
        fingerprint = re.sub(r"\s|^0x", "", str(text)).upper()
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise AptSourceError(
                f"{parameter} has {text!r}; a fingerprint is 40 hexadecimal digits (64 for a key of"
                " version 6), a short key id is not enough: take it from gpg --show-keys."
            )
        if fingerprint not in found:
            found.append(fingerprint)
    return tuple(found)


def _reject_incomplete(wanted: Repository) -> None:
    for parameter in ("uris", "suites", "fingerprints"):
        if not getattr(wanted, parameter):
            raise AptSourceError(f"{parameter} is empty; give at least one.")
    for uri in wanted.uris:
        if not _URI.fullmatch(uri):
            raise AptSourceError(
                f"uris has {without_login(uri)!r}; it must begin with http://, https:// or file:/"
                " and have no spaces."
            )
        if urllib.parse.urlsplit(uri).password is not None:
            raise AptSourceError(
                f"uris has a password for {without_login(uri)}, which every user of the host could"
                " read; put the login into a file in /etc/apt/auth.conf.d, see apt_auth.conf(5)."
            )
    for parameter in ("suites", "components", "architectures"):
        for word in getattr(wanted, parameter):
            if not _WORD.fullmatch(word):
                raise AptSourceError(f"{parameter} has {word!r}; it must be one word.")
    flat = [suite for suite in wanted.suites if suite.endswith("/")]
    if flat and wanted.components:
        raise AptSourceError(
            f"suites has {flat[0]!r}, a path to packages without components, so components must be"
            " empty; or give a suite that does not end with a slash."
        )
    if not flat and not wanted.components:
        raise AptSourceError(
            f"components is empty, which only a suite that ends with a slash may have, and"
            f" {wanted.suites[0]!r} does not; name the components."
        )


def without_login(uri: str) -> str:
    """Return a URI without the user and password that it may have."""
    return re.sub(r"//[^/@]*@", "//", uri)


def sources_text(wanted: Repository) -> str:
    """Return the deb822 file. It names the keys, so that another key makes another file."""
    fields = [
        ("Types", "deb"),
        ("URIs", " ".join(wanted.uris)),
        ("Suites", " ".join(wanted.suites)),
        ("Components", " ".join(wanted.components)),
        ("Architectures", " ".join(wanted.architectures)),
        ("Signed-By", wanted.keyring_path),
    ]
    lines = [
        "# Managed by Ansible (baremetal.vllm), changes are overwritten.",
        f"# Keys: {' '.join(wanted.fingerprints)}",
        *(f"{name}: {value}" for name, value in fields if value),
    ]
    return "\n".join(lines) + "\n"


# -- the key -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keyring:
    """What the keyring shall hold, whether a key was got for it, and what to warn of."""

    content: bytes
    got: bool = False
    warnings: tuple[str, ...] = ()


class KeyUnavailableError(AptSourceError):
    """The key could not be fetched: it may still be there in another way."""


def keyring(
    current: bytes | None,
    wanted: Repository,
    get: t.Callable[[], bytes],
    where: str,
    now: float | None = None,
) -> Keyring:
    """Return what the keyring shall hold.

    :param current: what it holds; a damaged one counts as none.
    :param get: gets the key; called only where the keyring lacks one that is allowed, or where one
        has expired. Raises KeyUnavailableError, which is a warning only as long as a key will do.
    :param where: where it is got from, for sentences: `key_url: https://... gave`.

    Raises AptSourceError where anything but allowed keys was got.
    """
    now = time.time() if now is None else now
    kept = {key.fingerprint: key for key in _allowed(current, wanted)}
    lacking = [name for name in wanted.fingerprints if name not in kept]
    if not lacking and not any(_has_expired(key, now) for key in kept.values()):
        return Keyring(_in_order(kept, wanted))
    warnings = []
    got = False
    try:
        fresh = _checked(get(), wanted, where)
        got = True
    except KeyUnavailableError as error:
        if not any(not _has_expired(key, now) for key in kept.values()):
            raise
        fresh = []
        warnings.append(f"{error} The key that is on the host stays in use.")
    merged = {**kept, **{key.fingerprint: key for key in fresh}}
    if all(_has_expired(key, now) for key in merged.values()):
        last = max(merged.values(), key=lambda key: key.expires or 0)
        day = time.strftime("%Y-%m-%d", time.gmtime(last.expires))
        warnings.append(
            f"The key {last.fingerprint} expired on {day}, so apt refuses the repository"
            f" {wanted.name}; ask its vendor for the key that follows."
        )
    return Keyring(_in_order(merged, wanted), got, tuple(warnings))


def _allowed(current: bytes | None, wanted: Repository) -> list[Key]:
    try:
        keys = read_keys(current or b"")
    except OpenPGPError:
        return []  # cut off or none: it is made anew
    return [key for key in keys if key.fingerprint in wanted.fingerprints]


def _checked(content: bytes, wanted: Repository, where: str) -> list[Key]:
    try:
        keys = read_keys(content)
    except OpenPGPError as error:
        raise AptSourceError(
            f"{where} something that {error}; nothing was written. Give the address of the"
            " repository's public key; a proxy or a login page may have answered in its place."
        ) from error
    for key in keys:
        if key.fingerprint not in wanted.fingerprints:
            raise AptSourceError(
                f"{where} the key {key.fingerprint} ({key.user_id}), allowed is"
                f" {' or '.join(wanted.fingerprints)}; nothing was written. Only if the vendor"
                " itself says that its key has changed, allow the new fingerprint."
            )
    return keys


def _has_expired(key: Key, now: float) -> bool:
    return key.expires is not None and key.expires <= now


def _in_order(keys: t.Mapping[str, Key], wanted: Repository) -> bytes:
    """Return the keyring; always in one order, so that two runs write the same."""
    return armored([keys[name] for name in wanted.fingerprints if name in keys])


# -- what others left ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One line of a .list file or one stanza of a .sources file.

    `first` and `last` are its lines, from 0; `fields` are those of a stanza: name -> lines.
    """

    path: str
    first: int
    last: int
    enabled: bool
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: tuple[str, ...]
    fields: t.Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        words = " ".join([*map(without_login, self.uris), *self.suites, *self.components])
        return f"{self.path}:{self.first + 1}: {words}"


@dataclass
class Leftovers:
    """The files to change, and the entries and keys that go with that, in words."""

    files: list[File] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Cleaner:
    """Finds what else the host has of a repository, below `root`."""

    def __init__(self, wanted: Repository, root: str = "/") -> None:
        self._wanted = wanted
        self._root = root.rstrip("/")
        self._own = {_plain(uri, wanted) for uri in wanted.uris}
        self._kept: list[Entry] = []
        self._gone: list[Entry] = []
        self._found = Leftovers()

    def find(self) -> Leftovers:
        """Return what must change. Raises AptSourceError for what a machine must not decide."""
        for path in self._list_files():
            if path != self._wanted.sources_path:
                self._clean_file(path)
        self._clean_trusted()
        self._clean_keyrings()
        return self._found

    def _list_files(self) -> list[str]:
        names = sorted(_names_in(self._below(SOURCES_DIRECTORY)))
        wanted = [name for name in names if _NAME.fullmatch(name)]
        return [_SOURCES_LIST] + [
            f"{SOURCES_DIRECTORY}/{name}" for name in wanted if name.endswith((".list", ".sources"))
        ]

    def _below(self, path: str) -> str:
        return self._root + path

    def _content(self, path: str) -> bytes | None:
        """Return what a file holds, behind a link too; None where there is none."""
        found = snapshot(self._below(path), follow=True)
        return found.content if found else None

    # -- entries -----------------------------------------------------------------------------

    def _clean_file(self, path: str) -> None:
        content = self._content(path)
        if content is None:
            return
        lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        entries = _entries(path, lines)
        before = len(self._gone)
        for entry in reversed(entries):  # from the end, so that the line numbers stay right
            if entry.enabled and self._clean_entry(entry, lines):
                continue
            self._kept.append(entry)
        if len(self._gone) == before:
            return
        says_nothing = all(not line.strip() or line.lstrip().startswith("#") for line in lines)
        if says_nothing and path != _SOURCES_LIST:
            self._found.files.append(File(self._below(path), None))
        else:
            text = "".join(lines).encode("utf-8", "surrogateescape")
            self._found.files.append(File(self._below(path), text))

    def has_entry(self, path: str, text: str | None) -> bool:
        """Return whether a file with this text has an entry that would be taken out."""
        lines = (text or "").splitlines(keepends=True)
        return any(
            self._is_vendors(uri) or (self._is_own(uri) and self._has_suite(entry))
            for entry in _entries(path, lines)
            if entry.enabled
            for uri in entry.uris
        )

    def _has_suite(self, entry: Entry) -> bool:
        return any(suite in self._wanted.suites for suite in entry.suites)

    def _clean_entry(self, entry: Entry, lines: list[str]) -> bool:
        """Take out of `lines` what is ours of an entry. Returns whether all of it was."""
        ours = [uri for uri in entry.uris if self._is_vendors(uri)]
        same = [uri for uri in entry.uris if uri not in ours and self._is_own(uri)]
        suites = [suite for suite in entry.suites if suite in self._wanted.suites]
        if same and suites:
            self._reject_shared(entry, same[0], suites)
            ours += same
        if not ours:
            return False
        rest = [uri for uri in entry.uris if uri not in ours]
        self._gone.append(entry)
        self._found.removed.append(str(entry))
        if not rest:
            del lines[entry.first : entry.last + 1]
            return True
        first, last = entry.fields["uris"]
        lines[first : last + 1] = [f"URIs: {' '.join(rest)}\n"]
        return False

    def _is_vendors(self, uri: str) -> bool:
        return any(text in uri for text in self._wanted.replaced_uris)

    def _is_own(self, uri: str) -> bool:
        return _plain(uri, self._wanted) in self._own

    def _reject_shared(self, entry: Entry, uri: str, suites: t.Sequence[str]) -> None:
        """An entry may give more from the same place, such as the operating system itself."""
        more = [name for name in entry.components if name not in self._wanted.components]
        others = [suite for suite in entry.suites if suite not in suites]
        if more or others:
            raise AptSourceError(
                f"{entry.path}:{entry.first + 1} has {without_login(uri)} with"
                f" {' '.join([*others, *more])} besides what {self._wanted.name} has; apt refuses"
                " two entries of one suite with different keys, so take"
                f" {' '.join([*suites, *self._wanted.components])} out of that entry by hand."
            )

    # -- keys --------------------------------------------------------------------------------

    def _clean_trusted(self) -> None:
        """Take the vendor's keys out of what apt trusts for every repository."""
        names = sorted(_names_in(self._below(_TRUSTED_DIRECTORY)))
        paths = [f"{_TRUSTED_DIRECTORY}/{name}" for name in names]
        for path in [_TRUSTED, *(path for path in paths if path.endswith((".gpg", ".asc")))]:
            try:
                keys = read_keys(self._content(path) or b"")
            except OpenPGPError:
                continue  # none, or what apt does not read either
            gone = [key for key in keys if key.fingerprint in self._wanted.replaced_keys]
            user = self._user_of_trusted() if gone else None
            if user:
                self._found.warnings.append(
                    f"{path} keeps the key {gone[0].fingerprint}: {user} has no Signed-By and may"
                    " need it."
                )
            elif gone:
                rest = [key for key in keys if key not in gone]
                content = (
                    armored(rest)
                    if path.endswith(".asc")
                    else b"".join(key.content for key in rest)
                )
                self._found.files.append(File(self._below(path), content if rest else None))
                self._found.removed += [f"{path}: key {key.fingerprint}" for key in gone]

    def _user_of_trusted(self) -> Entry | None:
        """Return an entry of the same server that has no key of its own."""
        places = [*self._wanted.uris, *self._wanted.replaced_uris]
        servers = {_server(place) for place in places} - {""}
        for entry in self._kept:
            others = [uri for uri in entry.uris if not self._is_ours(uri)]
            trusts_all = entry.enabled and not entry.signed_by
            if trusts_all and any(_server(uri) in servers for uri in others):
                return entry
        return None

    def _is_ours(self, uri: str) -> bool:
        return self._is_vendors(uri) or self._is_own(uri)

    def _clean_keyrings(self) -> None:
        """Remove the keyrings that only removed entries named, if nothing but our keys is in."""
        known = {*self._wanted.fingerprints, *self._wanted.replaced_keys}
        used = {path for entry in self._kept for path in entry.signed_by}
        used.add(self._wanted.keyring_path)
        named = {path for entry in self._gone for path in entry.signed_by} - used
        for path in sorted(named):
            if os.path.dirname(path) not in _KEYRING_DIRECTORIES:
                continue
            try:
                keys = read_keys(self._content(path) or b"")
            except OpenPGPError:
                continue
            if all(key.fingerprint in known for key in keys):
                self._found.files.append(File(self._below(path), None))
                self._found.removed.append(path)


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _plain(uri: str, wanted: Repository) -> str:
    """Return a URI without what makes no other repository of it: scheme, slash at the end."""
    if wanted.architectures:
        uri = uri.replace("$(ARCH)", wanted.architectures[0])
    uri = re.sub(r"^https?://", "//", without_login(uri.strip()))
    server, slash, path = uri[2:].partition("/")
    return f"//{server.lower()}{slash}{path}".rstrip("/") if uri.startswith("//") else uri


def _server(place: str) -> str:
    """Return the name of the server in a URI or in a part of one such as `example.org/linux`."""
    host = re.sub(r"^[a-z+]*:?//", "", without_login(place)).partition("/")[0].lower()
    return host if "." in host else ""


def _entries(path: str, lines: t.Sequence[str]) -> list[Entry]:
    return _stanzas(path, lines) if path.endswith(".sources") else _lines(path, lines)


def _lines(path: str, lines: t.Sequence[str]) -> list[Entry]:
    """Return the entries of a file in the one-line style. What is no entry is left alone."""
    found = []
    for number, line in enumerate(lines):
        match = _ONE_LINE.match(line)
        if not match:
            continue
        options = {
            name.lower(): value.strip('"')
            for name, value in _OPTION.findall(match["options"] or "")
        }
        found.append(
            Entry(
                path,
                number,
                number,
                True,
                (match["uri"].strip('"'),),
                (match["suite"],),
                tuple(match["components"].split()),
                _keyrings(options.get("signed-by", "")),
            )
        )
    return found


def _stanzas(path: str, lines: t.Sequence[str]) -> list[Entry]:
    """Return the entries of a deb822 file, with the comments before each."""
    found = []
    first: int | None = None
    for number, line in enumerate([*lines, ""]):
        if line.strip():
            first = number if first is None else first
        elif first is not None:
            entry = _stanza(path, lines, first, number - 1)
            if entry:
                found.append(entry)
            first = None
    return found


def _stanza(path: str, lines: t.Sequence[str], first: int, last: int) -> Entry | None:
    values: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}
    name = ""
    for number in range(first, last + 1):
        line = lines[number]
        if line.startswith("#"):
            continue
        if line[0] in " \t":
            if name:
                values[name] += f" {line.strip()}"
                places[name] = (places[name][0], number)
            continue
        name, _colon, value = line.partition(":")
        name = name.strip().lower()
        values[name] = value.strip()
        places[name] = (number, number)
    if "uris" not in values:
        return None
    return Entry(
        path,
        first,
        last,
        values.get("enabled", "yes").lower() not in _OFF,
        tuple(values["uris"].split()),
        tuple(values.get("suites", "").split()),
        tuple(values.get("components", "").split()),
        _keyrings(values.get("signed-by", "")),
        places,
    )


def _keyrings(signed_by: str) -> tuple[str, ...]:
    """Return what Signed-By names: files, or fingerprints, or a key itself in many words."""
    return tuple(word for word in re.split(r"[,\s]+", signed_by) if word)
