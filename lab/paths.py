"""Where the lab keeps things, and how its things are named, so that two labs never meet."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_NAME = "default"
# It becomes part of host, network and volume names; a host name has 63 characters at most.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of everything that can be made again: artifacts, images, the state of labs."""
    if environ.get("EDGEFLEET_CACHE"):
        root = Path(environ["EDGEFLEET_CACHE"]).expanduser().absolute()
    else:
        base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME") or Path.home()) / ".cache"
        root = Path(base).absolute() / "edgefleet"
    if re.search(r"[\s\"':,]", str(root)):
        raise LabError(
            f"{root}: podman and ssh can't take this path. Set EDGEFLEET_CACHE to one without spaces or quotes."
        )
    return root


def lab_id(name: str, checkout: Path = CHECKOUT) -> str:
    """The id of a lab: the same name in two checkouts is two labs."""
    if not _NAME.fullmatch(name):
        raise LabError(f"--name {name!r}: use 1 to 30 lower-case letters, digits and hyphens, no hyphen at the ends.")
    return f"ef-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}-{name}"


@dataclass(frozen=True)
class LabPaths:
    """Every path of one lab."""

    name: str
    checkout: Path = CHECKOUT
    cache: Path = Path()

    @classmethod
    def of(cls, name: str, *, checkout: Path = CHECKOUT, cache: Path | None = None) -> LabPaths:
        """The paths of the lab of this name, under the cache root of the environment."""
        lab_id(name, checkout)
        return cls(name=name, checkout=checkout, cache=cache or cache_root())

    @property
    def id(self) -> str:
        """The id that names and labels everything of this lab."""
        return lab_id(self.name, self.checkout)

    @property
    def mirror(self) -> Path:
        """The mirror folder, shared by all labs."""
        return self.cache / "mirror"

    @property
    def image(self) -> Path:
        """The host image's folder, shared by all labs."""
        return self.cache / "image"

    @property
    def state(self) -> Path:
        """What this lab remembers: keys, logs, the inventory."""
        return self.cache / "labs" / self.id

    @property
    def lock(self) -> Path:
        """Beside the state, not in it: `down` removes the state while it holds the lock."""
        return self.cache / "labs" / f"{self.id}.lock"

    @property
    def key(self) -> Path:
        """The private key that logs in to the hosts of this lab."""
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of this lab."""
        return self.state / "known_hosts"

    @property
    def logs(self) -> Path:
        """The output of long commands."""
        return self.state / "logs"

    @property
    def group_vars(self) -> Path:
        """The committed variables that every lab uses."""
        return self.checkout / "inventories" / "lab" / "group_vars"

    @property
    def inventory(self) -> Path:
        """The inventory folder: inside the checkout for the lab that `ansible-playbook` uses without -i."""
        if self.name == DEFAULT_NAME:
            return self.group_vars.parent
        return self.state / "inventory"

    @property
    def reports(self) -> Path:
        """Where reports go: they outlive the lab, so in the checkout."""
        base = self.checkout / "reports"
        return base if self.name == DEFAULT_NAME else base / self.name
