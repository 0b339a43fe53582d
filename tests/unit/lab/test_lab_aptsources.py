"""The machine's apt sources: both formats, and which of them are Debian's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.aptsources import KEYRING, Source, for_release, parse_deb822, parse_lines, proxies, read
from lab.errors import LabError
from tests.unit.lab.fakes import FakeRun

LINES = """\
# deb http://old.example.com/debian buster main
deb http://mirror.example.com/debian/ bookworm main contrib # the near one
deb-src http://mirror.example.com/debian bookworm main
deb [arch=amd64 signed-by=/own.gpg trusted=yes] https://sec.example.com/debian-security bookworm-security main
deb cdrom:[Debian]/ bookworm main
"""
DEB822 = """\
Types: deb deb-src
# a comment between
URIs: http://mirror.example.com/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://off.example.com/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://key.example.com/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
"""


def test_one_line_format() -> None:
    found = list(parse_lines(LINES))
    assert found[0] == Source("http://mirror.example.com/debian", "bookworm", ("main", "contrib"))
    assert found[1] == Source(
        "https://sec.example.com/debian-security", "bookworm-security", ("main",), "/own.gpg", True
    )
    assert not any("old.example.com" in source.uri for source in found)


def test_deb822_format() -> None:
    found = list(parse_deb822(DEB822))
    assert [(s.uri, s.suite) for s in found] == [
        ("http://mirror.example.com/debian", "bookworm"),
        ("http://mirror.example.com/debian", "bookworm-updates"),
        ("http://key.example.com/debian", "bookworm"),
    ]
    assert found[0].components == ("main", "contrib")
    assert found[0].signed_by == KEYRING
    assert found[2].signed_by == ""


def test_read_takes_both_formats_and_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example.com/debian trixie main\n")
    (tmp_path / "sources.list.d" / "b.sources").write_text(DEB822)
    (tmp_path / "sources.list.d" / "c.list.disabled").write_text("deb http://c.example.com/debian trixie main\n")
    (tmp_path / "sources.list.d" / "d.list").write_text("deb http://d.example.com/debian trixie main\n")
    hosts = {source.uri.split("/")[2] for source in read(tmp_path)}
    assert hosts == {"a.example.com", "mirror.example.com", "key.example.com", "d.example.com"}


def test_release_takes_the_pockets_that_the_machine_has() -> None:
    found = for_release([*parse_deb822(DEB822), *parse_lines(LINES)], "trixie")
    assert [(s.suite, s.uri) for s in found] == [
        ("trixie", "http://mirror.example.com/debian"),
        ("trixie-updates", "http://mirror.example.com/debian"),
        ("trixie-security", "https://sec.example.com/debian-security"),
    ]
    assert all(s.components == ("main",) for s in found)
    assert found[2].line() == (
        "deb [signed-by=/own.gpg trusted=yes] https://sec.example.com/debian-security trixie-security main"
    )


def test_repositories_of_others_are_not_taken_for_debian() -> None:
    others = """\
deb https://packages.example.com/linux/debian bookworm stable
deb https://apt.example.org bookworm main
deb https://db.example.com/pub/repos/apt bookworm-pgdg main
deb https://node.example.com/node_20.x nodistro main
deb http://mirror.example.com/ubuntu jammy main
"""
    with pytest.raises(LabError, match="No Debian mirror in this machine's apt sources"):
        for_release(list(parse_lines(others)), "trixie")


def test_proxy_of_apt_goes_before_that_of_the_environment() -> None:
    run = FakeRun({"apt-config": (0, "Acquire::http::Proxy=http://apt:3142\nAPT::Architecture=amd64\n")})
    found = proxies({"http_proxy": "http://env:1", "HTTPS_PROXY": "http://env:2"}, run)
    assert found == {"http": "http://apt:3142", "https": "http://env:2"}
