# Copyright (c) 2026 baremetal.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What apt_source promises, with real keys and real files below a directory of its own."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import stat
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.baremetal.vllm.plugins.module_utils import _file_set, _openpgp
from ansible_collections.baremetal.vllm.plugins.modules import apt_source

KEYS = Path(__file__).parents[1] / "module_utils" / "keys"
ONE = "D24762E3A8C34C570992FBF392EDB4CC72E747C0"
TWO = "3A29C5EF85C75694386ABDE69536AC6DA1981F59"
STRANGER = "6F48E43540ADFD6FE22BEB2634BB1F8AD7233FAD"
OLD = "2CE4E9E9A40EF3094AA17CFCA1D25681086F8C11"

URI = "https://vendor.example.org/linux/debian"
SOURCES = "etc/apt/sources.list.d/vendor.sources"
KEYRING = "etc/apt/keyrings/vendor.asc"
DEBIAN = "deb http://archive.example/debian trixie main\n"
TEXT = f"""\
# Managed by Ansible (baremetal.vllm), changes are overwritten.
# Keys: {ONE}
Types: deb
URIs: {URI}
Suites: trixie
Components: stable
Architectures: amd64
Signed-By: /etc/apt/keyrings/vendor.asc
"""


def key(name: str) -> bytes:
    return (KEYS / f"{name}.asc").read_bytes()


def binary(*names: str) -> bytes:
    return b"".join(each.content for name in names for each in _openpgp.read_keys(key(name)))


class Host:
    """A directory that stands for the host, and the module run on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys
        self.key_url = self.put("key.asc", key("vendor_one")).as_uri()
        self.put("etc/apt/sources.list", DEBIAN)

    def put(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def exists(self, name: str) -> bool:
        return (self.root / name).exists()

    def run(self, check: bool = False, diff: bool = False, **options: t.Any) -> dict[str, t.Any]:
        arguments: dict[str, t.Any] = {
            "name": "vendor",
            "uris": [URI],
            "suites": ["trixie"],
            "components": ["stable"],
            "architectures": ["amd64"],
            "fingerprints": [ONE],
            **options,
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
        }
        if "key" not in options:
            arguments.setdefault("key_url", self.key_url)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            apt_source.main()
        result: dict[str, t.Any] = json.loads(self._capsys.readouterr().out)
        return result

    def warning(self, **options: t.Any) -> str:
        """Run and return the one warning, the host having been served all the same."""
        result = self.run(**options)
        assert not result.get("failed"), result["msg"]
        (warning,) = result["warnings"]
        return str(warning["event"]["msg"] if isinstance(warning, dict) else warning)

    def changes(self, **options: t.Any) -> list[str]:
        """Run and return the changed paths."""
        result = self.run(**options)
        assert not result.get("failed"), result["msg"]
        assert result["changed"] == bool(result["changed_paths"])
        return [path.lstrip("/") for path in result["changed_paths"]]

    def keyring(self) -> list[str]:
        return [each.fingerprint for each in _openpgp.read_keys((self.root / KEYRING).read_bytes())]

    def tree(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Host:
    _file_set.user_id.cache_clear()
    below = functools.partial(apt_source.AptSource, root=str(tmp_path), owner=str(os.getuid()))
    monkeypatch.setattr(apt_source, "AptSource", below)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(apt_source.time, "sleep", lambda seconds: None)
    return Host(tmp_path, capsys)


# -- the repository itself -------------------------------------------------------------------------


def test_virgin_host_gets_keyring_and_entry(host: Host) -> None:
    assert host.changes()[-2:] == [KEYRING, SOURCES]
    assert host.read(SOURCES) == TEXT
    assert host.keyring() == [ONE]
    for name in (SOURCES, KEYRING):  # apt reads them as the user _apt
        assert stat.S_IMODE((host.root / name).stat().st_mode) == 0o644
    assert host.read("etc/apt/sources.list") == DEBIAN


def test_second_run_changes_nothing_and_fetches_nothing(host: Host) -> None:
    host.changes()
    (host.root / "key.asc").unlink()
    result = host.run()
    assert (result["changed"], result["key_fetched"]) == (False, False)


def test_check_mode_predicts_and_changes_nothing(host: Host) -> None:
    host.put("etc/apt/sources.list.d/old.list", f"deb {URI} trixie stable\n")
    before = host.tree()
    predicted = host.run(check=True, diff=True)
    assert host.tree() == before
    assert predicted["changed_paths"] == host.run()["changed_paths"]
    assert predicted["diff"]


def test_check_mode_takes_a_key_that_is_out_of_reach_for_a_warning(host: Host) -> None:
    """What makes the key reachable may be an earlier task's business."""
    warning = host.warning(check=True, key_url="file:///nowhere/key.asc")
    assert "/nowhere/key.asc cannot be read on the host" in warning
    assert not host.exists(SOURCES)


def test_path_of_packages_takes_the_place_of_suites_and_components(host: Host) -> None:
    host.changes(suites=["/"], components=[])
    assert "Suites: /\nArch" in host.read(SOURCES)


def test_key_may_be_given_as_text(host: Host) -> None:
    assert KEYRING in host.changes(key=key("vendor_one").decode())
    assert host.keyring() == [ONE]


def test_key_may_be_binary(host: Host) -> None:
    host.put("key.asc", binary("vendor_one"))
    host.changes()
    assert host.read(KEYRING).startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_fingerprint_may_be_written_in_groups(host: Host) -> None:
    groups = " ".join(ONE[i : i + 4].lower() for i in range(0, 40, 4))
    host.changes(fingerprints=[groups])
    assert host.read(SOURCES) == TEXT


def test_absent_removes_both_files_and_nothing_else(host: Host) -> None:
    host.changes()
    assert host.changes(state="absent") == [SOURCES, KEYRING]
    assert host.changes(state="absent") == []
    assert host.read("etc/apt/sources.list") == DEBIAN


# -- the key ---------------------------------------------------------------------------------------


def test_key_of_somebody_else_is_refused_and_nothing_is_written(host: Host) -> None:
    host.put("key.asc", key("stranger"))
    host.put("etc/apt/sources.list.d/old.list", f"deb {URI} trixie stable\n")
    before = host.tree()
    message = host.run()["msg"]
    assert f"gave the key {STRANGER} (Stranger <stranger@example.org>), allowed is {ONE}" in message
    assert "nothing was written" in message
    assert host.tree() == before


def test_key_of_somebody_else_is_refused_in_check_mode_too(host: Host) -> None:
    host.put("key.asc", key("stranger"))
    assert host.run(check=True)["failed"]


def test_stranger_behind_the_right_key_is_refused(host: Host) -> None:
    host.put("key.asc", key("vendor_one") + key("stranger"))
    assert STRANGER in host.run()["msg"]
    assert not host.exists(KEYRING)


def test_page_in_place_of_the_key_is_refused(host: Host) -> None:
    host.put("key.asc", "<html>Sign in to the network</html>")
    assert "gave something that is no OpenPGP key; nothing was written" in host.run()["msg"]


def test_key_that_was_replaced_goes_when_its_fingerprint_is_not_allowed_any_more(
    host: Host,
) -> None:
    host.changes()
    host.put("key.asc", key("vendor_two"))
    assert host.changes(fingerprints=[TWO]) == [KEYRING, SOURCES]
    assert host.keyring() == [TWO]


def test_both_keys_are_kept_while_both_are_allowed(host: Host) -> None:
    """The repository may be signed by the old one for a while after the new one is published."""
    host.changes()
    assert host.changes(fingerprints=[ONE, TWO]) == [SOURCES]  # the vendor has the old one still
    assert host.changes(fingerprints=[ONE, TWO]) == []
    host.put("key.asc", key("vendor_two"))
    assert host.changes(fingerprints=[ONE, TWO]) == [KEYRING]
    assert host.keyring() == [ONE, TWO]


def test_key_out_of_reach_is_a_warning_while_an_allowed_one_is_there(host: Host) -> None:
    host.changes()
    (host.root / "key.asc").unlink()
    warning = host.warning(fingerprints=[ONE, TWO])
    assert "The key that is on the host stays in use" in warning
    assert host.keyring() == [ONE]


def test_half_written_keyring_is_made_anew(host: Host) -> None:
    host.changes()
    host.put(KEYRING, key("vendor_one")[:300])
    assert host.changes() == [KEYRING]
    assert host.keyring() == [ONE]


def test_key_that_expired_is_fetched_again(host: Host) -> None:
    """Vendors prolong a key without changing its fingerprint; apt refuses the copy of old."""
    host.put("key.asc", key("prolonged"))
    host.put(KEYRING, key("expired"))
    assert KEYRING in host.changes(fingerprints=[OLD])
    (on_host,) = _openpgp.read_keys((host.root / KEYRING).read_bytes())
    assert on_host.expires is None


def test_key_that_the_vendor_let_expire_is_told(host: Host) -> None:
    host.put("key.asc", key("expired"))
    assert f"The key {OLD} expired on 2020-12-31" in host.warning(fingerprints=[OLD])


# -- what older set-ups left -----------------------------------------------------------------------

VENDORS = {"uris": ["vendor.example.org/linux/"], "keys": [ONE]}


def test_lines_of_the_vendor_go_and_all_else_stays(host: Host) -> None:
    host.put(
        "etc/apt/sources.list",
        f"# Debian\n{DEBIAN}deb [arch=amd64] {URI} bookworm stable\n\ndeb-src {URI} trixie test\n",
    )
    assert "etc/apt/sources.list" in host.changes(replaces=VENDORS)
    assert host.read("etc/apt/sources.list") == f"# Debian\n{DEBIAN}\n"


def test_list_file_that_says_nothing_more_is_removed_with_its_keyring(host: Host) -> None:
    host.put(
        "etc/apt/sources.list.d/docker.list",
        f"# by hand\ndeb [arch=amd64 signed-by=/usr/share/keyrings/old.gpg] {URI} trixie stable\n",
    )
    host.put("usr/share/keyrings/old.gpg", binary("vendor_one"))
    result = host.run(replaces=VENDORS)
    assert result["removed"] == [
        f"/etc/apt/sources.list.d/docker.list:2: {URI} trixie stable",
        "/usr/share/keyrings/old.gpg",
    ]
    assert not host.exists("etc/apt/sources.list.d/docker.list")
    assert not host.exists("usr/share/keyrings/old.gpg")


def test_stanza_goes_and_the_others_of_its_file_stay(host: Host) -> None:
    other = "# mine\nTypes: deb\nURIs: http://other.example.org\nSuites: /\n"
    host.put(
        "etc/apt/sources.list.d/all.sources",
        f"{other}\n# Docker\nTypes: deb\nURIs:\n {URI}\nSuites: trixie\nComponents: stable\n",
    )
    host.changes(replaces=VENDORS)
    assert host.read("etc/apt/sources.list.d/all.sources") == f"{other}\n"


def test_address_is_taken_out_of_a_stanza_that_has_others(host: Host) -> None:
    host.put(
        "etc/apt/sources.list.d/all.sources",
        f"Types: deb\nURIs: http://other.example.org\n {URI}\nSuites: trixie\nComponents: stable\n",
    )
    host.changes(replaces=VENDORS)
    assert host.read("etc/apt/sources.list.d/all.sources") == (
        "Types: deb\nURIs: http://other.example.org\nSuites: trixie\nComponents: stable\n"
    )


@pytest.mark.parametrize(
    "address",
    [URI, f"{URI}/", URI.replace("https", "http"), URI.replace("vendor", "Vendor")],
)
def test_same_repository_is_known_by_other_spellings(host: Host, address: str) -> None:
    host.put("etc/apt/sources.list.d/other.list", f"deb {address} trixie stable\n")
    host.changes()
    assert not host.exists("etc/apt/sources.list.d/other.list")


def test_architecture_in_an_address_is_understood(host: Host) -> None:
    host.put("etc/apt/sources.list.d/other.list", "deb https://vendor.example.org/$(ARCH) /\n")
    host.changes(uris=["https://vendor.example.org/amd64"], suites=["/"], components=[])
    assert not host.exists("etc/apt/sources.list.d/other.list")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "off.sources",
            f"Enabled: no\nTypes: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\n",
        ),
        ("commented.list", f"# deb {URI} trixie stable\n"),
        ("old.list.save", f"deb {URI} trixie stable\n"),
        ("other-suite.list", f"deb {URI} bookworm stable\n"),
        ("cdrom.list", "deb cdrom:[Debian GNU/Linux 13]/ trixie main\n"),
        ("broken.list", "deb\nwhat is this\n"),
        ("latin.list", b"# M\xfcller\n"),
    ],
)
def test_what_apt_does_not_read_as_this_repository_stays(
    host: Host, name: str, text: str | bytes
) -> None:
    host.put(f"etc/apt/sources.list.d/{name}", text)
    assert f"etc/apt/sources.list.d/{name}" not in host.changes()


def test_mirror_that_serves_the_system_too_is_not_torn_apart(host: Host) -> None:
    mirror = "http://mirror.example.org/apt"
    host.put("etc/apt/sources.list", f"deb {mirror} trixie main\n")
    before = host.tree()
    message = host.run(uris=[mirror])["msg"]
    assert message == (
        f"/etc/apt/sources.list:1 has {mirror} with main besides what vendor has; apt refuses two"
        " entries of one suite with different keys, so take trixie stable out of that entry by"
        " hand."
    )
    assert host.tree() == before


def test_keyring_that_another_entry_names_stays(host: Host) -> None:
    host.put(
        "etc/apt/sources.list.d/a.list",
        f"deb [signed-by=/usr/share/keyrings/old.gpg] {URI} trixie stable\n"
        "deb [signed-by=/usr/share/keyrings/old.gpg] https://elsewhere.example.org trixie main\n",
    )
    host.put("usr/share/keyrings/old.gpg", binary("vendor_one"))
    host.changes(replaces=VENDORS)
    assert host.exists("usr/share/keyrings/old.gpg")


def test_keyring_with_other_keys_stays(host: Host) -> None:
    """Somebody signed the vendor's entry with the keyring of the distribution."""
    host.put(
        "etc/apt/sources.list.d/a.list",
        f"deb [signed-by=/usr/share/keyrings/debian.gpg] {URI} trixie stable\n",
    )
    host.put("usr/share/keyrings/debian.gpg", binary("vendor_one", "vendor_two"))
    host.changes(replaces=VENDORS)
    assert host.exists("usr/share/keyrings/debian.gpg")


def test_key_goes_out_of_what_apt_trusts_for_everything(host: Host) -> None:
    host.put("etc/apt/trusted.gpg", binary("vendor_two", "vendor_one"))
    host.put("etc/apt/trusted.gpg.d/vendor.gpg", binary("vendor_one"))
    host.put("etc/apt/trusted.gpg.d/both.asc", key("vendor_one") + key("vendor_two"))
    host.put("etc/apt/trusted.gpg.d/box.gpg", b"\0" * 8 + b"KBXf" + b"\0" * 20)
    removed = host.run(replaces=VENDORS)["removed"]
    assert removed == [
        f"/etc/apt/trusted.gpg: key {ONE}",
        f"/etc/apt/trusted.gpg.d/both.asc: key {ONE}",
        f"/etc/apt/trusted.gpg.d/vendor.gpg: key {ONE}",
    ]
    assert (host.root / "etc/apt/trusted.gpg").read_bytes() == binary("vendor_two")
    assert host.read("etc/apt/trusted.gpg.d/both.asc") == key("vendor_two").decode()
    assert not host.exists("etc/apt/trusted.gpg.d/vendor.gpg")


def test_trusted_key_stays_while_another_entry_of_the_vendor_needs_it(host: Host) -> None:
    host.put(
        "etc/apt/sources.list.d/more.list", "deb https://vendor.example.org/other trixie main\n"
    )
    host.put("etc/apt/trusted.gpg", binary("vendor_one"))
    warning = host.warning(replaces=VENDORS)
    assert host.exists("etc/apt/trusted.gpg")
    assert "/etc/apt/sources.list.d/more.list:1" in warning
    assert "has no Signed-By and may need it" in warning


def test_run_killed_before_the_last_step_leaves_no_two_entries(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.put("etc/apt/sources.list.d/old.list", f"deb {URI} trixie stable\n")
    install, calls = _file_set.install, []

    def killed(changes: t.Sequence[_file_set.Change]) -> None:
        calls.append(changes)
        if len(calls) == 2:
            raise KeyboardInterrupt
        install(changes)

    with monkeypatch.context() as patch:
        patch.setattr(_file_set, "install", killed)
        with pytest.raises(KeyboardInterrupt):
            host.run()
    assert not host.exists("etc/apt/sources.list.d/old.list")
    assert not host.exists(SOURCES)
    assert host.changes() == [SOURCES]


@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt here to ask")
def test_apt_refuses_all_before_and_nothing_after(host: Host) -> None:
    old = "deb [arch=amd64 signed-by=/usr/share/keyrings/old.gpg]"
    host.put("etc/apt/sources.list.d/old.list", f"{old} {URI} trixie stable\n")
    host.put("usr/share/keyrings/old.gpg", binary("vendor_one"))
    host.put(SOURCES, TEXT)
    for name in (
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
        "etc/apt/apt.conf.d",
    ):
        (host.root / name).mkdir(parents=True)
    command = ["apt-get", "-o", f"Dir={host.root}", "-o", "Dir::State::status=/dev/null"]

    def apt() -> subprocess.CompletedProcess[str]:
        command_line = [*command, "update", "--print-uris"]
        return subprocess.run(command_line, capture_output=True, text=True, check=False)

    assert "Conflicting values set for option Signed-By" in apt().stderr
    host.changes()
    assert apt().returncode == 0, apt().stderr
    assert apt().stdout.count(f"'{URI}/dists/trixie/InRelease'") == 1


# -- bad parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "a b"}, "name is 'a b'; apt reads only files whose names are made of"),
        ({"fingerprints": ["63BF863C"]}, "fingerprints has '63BF863C'; a fingerprint is 40"),
        ({"fingerprints": []}, "fingerprints is empty; give at least one"),
        ({"replaces": {"keys": ["x"]}}, "replaces.keys has 'x'"),
        ({"uris": []}, "uris is empty"),
        ({"uris": ["ftp://x"]}, "uris has 'ftp://x'; it must begin with http://"),
        (
            {"uris": ["https://me:secret@x.org/a"]},
            "put the login into a file in /etc/apt/auth.conf.d",
        ),
        ({"suites": ["/"]}, "suites has '/', a path to packages without components"),
        ({"components": []}, "components is empty, which only a suite that ends with a slash"),
        ({"suites": ["a b"]}, "suites has 'a b'; it must be one word"),
        ({"key_url": ""}, "key_url is empty"),
    ],
)
def test_bad_parameters_are_refused(host: Host, options: dict[str, t.Any], sentence: str) -> None:
    before = host.tree()
    message = host.run(**options)["msg"]
    assert sentence in message
    assert "secret" not in message
    assert host.tree() == before


# -- fetching --------------------------------------------------------------------------------------


class Server:
    """An HTTP server that answers with the given statuses, one after the other."""

    def __init__(self, statuses: list[int]) -> None:
        asked = self.asked = []  # type: list[str]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(statuses.pop(0) if statuses else 200)
                self.end_headers()
                self.wfile.write(key("vendor_one"))

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> t.Iterator[t.Callable[..., Server]]:
    servers: list[Server] = []

    def start(*statuses: int) -> Server:
        servers.append(Server(list(statuses)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_server_that_stumbles_is_asked_again(host: Host, serve: t.Callable[..., Server]) -> None:
    server = serve(503, 502)
    host.changes(key_url=f"{server.url}/gpg")
    assert server.asked == ["/gpg"] * 3
    assert host.keyring() == [ONE]


def test_server_without_the_key_is_told_at_once(host: Host, serve: t.Callable[..., Server]) -> None:
    server = serve(404)
    message = host.run(key_url=f"{server.url}/gpg")["msg"]
    assert f"key_url: {server.url}/gpg cannot be fetched by the host (HTTP Error 404" in message
    assert "or give the address of a mirror" in message
    assert server.asked == ["/gpg"]


def test_proxy_of_apt_is_used(
    host: Host, serve: t.Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve()
    said = f'Acquire::http::Proxy "{proxy.url}";\n'
    monkeypatch.setattr(
        apt_source.AnsibleModule, "run_command", lambda *_words, **_options: (0, said, "")
    )
    monkeypatch.setenv("http_proxy", "")  # so that what the module sets is undone
    host.changes(key_url="http://key.invalid/gpg")
    assert proxy.asked == ["http://key.invalid/gpg"]


@pytest.mark.parametrize(
    ("configuration", "url", "proxy"),
    [
        ("", "https://a.org/k", None),
        ('Acquire::http::Proxy "http://p:1";', "https://a.org/k", "http://p:1"),
        (
            'Acquire::http::Proxy "http://p:1";\nAcquire::https::Proxy "http://s:2";',
            "https://a.org/k",
            "http://s:2",
        ),
        (
            'Acquire::http::Proxy "http://p:1";\nAcquire::https::Proxy "DIRECT";',
            "https://a.org/k",
            None,
        ),
        (
            'Acquire::http::Proxy "http://p:1";\nAcquire::http::Proxy::a.org "DIRECT";',
            "http://a.org/k",
            None,
        ),
        ('Acquire::http::Proxy "";', "http://a.org/k", None),
    ],
)
def test_proxy_is_the_one_that_apt_takes(configuration: str, url: str, proxy: str | None) -> None:
    assert apt_source.proxy_of_apt(configuration, url) == proxy
