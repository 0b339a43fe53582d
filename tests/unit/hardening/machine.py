"""A host made of a folder and of programs that answer what a test tells them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.hardening.model import Machine

Answer = Callable[[list[str]], tuple[int, str, str] | None]


@dataclass
class Programs:
    """Records what is run; the first answer that isn't None counts, else it went well without a word."""

    answers: list[Answer] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def __call__(self, args: list[str], *, data: str | None = None) -> tuple[int, str, str]:
        del data
        self.ran.append(" ".join(args))
        for answer in self.answers:
            given = answer(args)
            if given is not None:
                return given
        if args[:2] == ["systemctl", "show"]:
            units = args[args.index("--") + 1 :]
            block = "LoadState=not-found\nUnitFileState=\nActiveState=inactive\n"
            return 0, "\n".join(block for _ in units), ""
        return 0, "", ""


def make(root: Path, programs: Programs | None = None, **files: str) -> Machine:
    """A host with systemd, all capabilities and these files (path with __ for /)."""
    for folder in ("run/systemd/system", "proc/self", "proc/sys/kernel", "etc", "var/lib/edgefleet", "usr/sbin"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "proc/self/status").write_text("Name:\tpython3\nCapEff:\t000001ffffffffff\n")
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(programs or Programs(), root)
