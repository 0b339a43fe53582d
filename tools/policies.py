"""The lists in policies/ that follow from the declarations: which images are Wasm, who may have ports of the host."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from edgefleet_pulumi import images
from edgefleet_pulumi.model import Industry, load_industries
from tools import text

Render = Callable[[str], str]
REGISTRIES, CLASS, HOST = "allowed-registries", "wasm-runtime-class", "no-host-access"
REASON = "relayed media goes to one port of the host a call, which a node port can't carry"


def outputs(root: Path) -> dict[str, Render]:
    """Path and rendering of each file; all but the list in it is written by hand."""
    industries = list(load_industries(root / "industries").values())
    wasm, exempt = wasm_images(industries), exemptions(industries)
    parts = {
        f"policies/{REGISTRIES}/constraint.yaml": ("repositories", text.as_yaml({"repositories": repositories()})),
        f"policies/{CLASS}/constraint.yaml": ("wasm images", text.as_yaml({"images": wasm})),
        f"policies/{HOST}/constraint.yaml": ("exemptions", text.as_yaml({"exemptions": exempt})),
        f"policies/admission/{CLASS}.yaml": ("wasm images", _variable("wasmImages", wasm)),
        f"policies/admission/{HOST}.yaml": ("exemptions", _variable("exemptions", _ranges(exempt))),
    }
    return {name: partial(_replaced, part, content, name) for name, (part, content) in parts.items()}


def _replaced(part: str, content: str, name: str, old: str) -> str:
    return text.between_marks(old, part, content, name)


def repositories() -> list[str]:
    """Where the servers beside the services come from, without their tags."""
    return sorted(image.rpartition(":")[0] for image in images.PRODUCT.values())


def wasm_images(industries: Iterable[Industry]) -> list[str]:
    """The repositories of the systems' own services: each is a Wasm image, whatever registry it comes from."""
    return sorted(industry.wasm_repository for industry in industries)


def exemptions(industries: Iterable[Industry]) -> list[dict[str, Any]]:
    """Namespaces that have ports of the host: each TURN server's own, for the ports it declares."""
    return [
        {
            "namespace": f"{industry.system}-turn",
            "reason": REASON,
            "hostPorts": [
                {"first": turn.port, "last": turn.port},
                {"first": turn.relay_ports[0], "last": turn.relay_ports[1]},
            ],
        }
        for industry in industries
        if (turn := industry.back_ends.turn)
    ]


def _ranges(exempt: Iterable[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """The same in one type throughout, as CEL wants it: first and last port of each range by namespace."""
    return {one["namespace"]: [[ports["first"], ports["last"]] for ports in one["hostPorts"]] for one in exempt}


def _variable(name: str, content: Any) -> str:
    """A variable of a ValidatingAdmissionPolicy. What JSON writes, CEL reads."""
    expression = textwrap.indent(json.dumps(content, indent=2), "    ")
    return f"- name: {name}\n  expression: |\n{expression}\n"
