"""Which Debian mirror the machine itself uses, read from its apt configuration.

A machine behind a proxy or with an internal mirror already knows the way to Debian: the lab takes the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lab.errors import LabError
from lab.process import Run, run

RELEASE = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Suites of Debian itself. Others publish for these names too, so the address must look like Debian's as well.
_SUITES = re.compile(
    r"(buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(-updates|-security)?"
)


@dataclass(frozen=True)
class Source:
    """One address and one suite of it."""

    uri: str
    suite: str
    components: tuple[str, ...] = ("main",)
    signed_by: str = ""
    trusted: bool = False

    def line(self) -> str:
        """As one line of sources.list."""
        options = [f"signed-by={self.signed_by or KEYRING}"] + (["trusted=yes"] if self.trusted else [])
        return f"deb [{' '.join(options)}] {self.uri} {self.suite} {' '.join(self.components)}"


def parse_lines(text: str) -> Iterator[Source]:
    """The one-line format: `deb [options] uri suite component...`."""
    for raw in text.splitlines():
        found = re.fullmatch(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)", raw.partition("#")[0].strip())
        if not found:
            continue
        options = dict(part.split("=", 1) for part in (found[1] or "").split() if "=" in part)
        yield Source(
            uri=found[2].rstrip("/"),
            suite=found[3].rstrip("/"),
            components=tuple(found[4].split()),
            signed_by=options.get("signed-by", ""),
            trusted=options.get("trusted") == "yes",
        )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Fields of each deb822 stanza, names in lower case, continued lines joined by newlines."""
    fields: dict[str, str] = {}
    last = ""
    for raw in [*text.splitlines(), ""]:
        if raw.startswith("#"):
            continue
        if not raw.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif raw[0].isspace() and last:
            fields[last] += "\n" + raw.strip()
        elif ":" in raw:
            name, _, value = raw.partition(":")
            last = name.strip().lower()
            fields[last] = value.strip()


def parse_deb822(text: str) -> Iterator[Source]:
    """The deb822 format of *.sources files."""
    for fields in _stanzas(text):
        if fields.get("enabled", "yes").lower() in ("no", "false", "0") or "deb" not in fields.get("types", "").split():
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(
                    uri=uri.rstrip("/"),
                    suite=suite.rstrip("/"),
                    components=tuple(fields.get("components", "").split()),
                    # A key inside the file instead of a path: Debian's own keyring then has to do.
                    signed_by=signed_by if signed_by.startswith("/") and "\n" not in signed_by else "",
                    trusted=fields.get("trusted", "no").lower() == "yes",
                )


def read(apt: Path = Path("/etc/apt")) -> list[Source]:
    """All the machine's sources, in apt's own order."""
    found: list[Source] = []
    if (apt / "sources.list").is_file():
        found += parse_lines((apt / "sources.list").read_text(errors="replace"))
    for path in sorted((apt / "sources.list.d").glob("*")):
        if path.suffix == ".list":
            found += parse_lines(path.read_text(errors="replace"))
        elif path.suffix == ".sources":
            found += parse_deb822(path.read_text(errors="replace"))
    return found


def _is_debian(source: Source) -> bool:
    address = urlsplit(source.uri)
    return (
        address.scheme in ("http", "https")
        and "main" in source.components
        and bool(_SUITES.fullmatch(source.suite))
        and "debian" in f"{address.hostname}{address.path}"
    )


def for_release(machine: list[Source], release: str = RELEASE) -> list[Source]:
    """The same mirrors for another release: its main suite, and updates and security where the machine has them."""
    debian = [source for source in machine if _is_debian(source)]
    plain = [source for source in debian if "-" not in source.suite]
    if not plain:
        raise LabError(
            "No Debian mirror in this machine's apt sources, and the hosts' image is made from one: add a source of "
            "Debian's main archive, for example as /etc/apt/sources.list.d/debian.sources."
        )
    wanted = {release: plain[0]}
    for source in debian:
        _, dash, pocket = source.suite.partition("-")
        if dash:
            wanted.setdefault(f"{release}-{pocket}", source)
    return [replace(source, suite=suite, components=("main",)) for suite, source in wanted.items()]


def proxies(environ: Mapping[str, str], run: Run = run) -> dict[str, str]:
    """apt's proxies by scheme: from apt's configuration, else from the environment."""
    dump = run(["apt-config", "dump", "--format", "%f=%v%n"], check=False).stdout
    settings = dict(line.split("=", 1) for line in dump.splitlines() if "=" in line)
    found: dict[str, str] = {}
    for scheme in ("http", "https"):
        value = (
            settings.get(f"Acquire::{scheme}::Proxy")
            or environ.get(f"{scheme}_proxy")
            or environ.get(f"{scheme.upper()}_PROXY")
        )
        if value:
            found[scheme] = value
    return found
