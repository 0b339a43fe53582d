"""A containerd that answers CRI's calls: containers print what their program would, and a kubelet may end pods."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import grpc
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.grpc import GrpcError

# The wall clock stands still: only what the fake says has passed is measured.
NOW = 1_767_323_045.0
IMAGES = {"registry.example.com/large:1": 9_000_000, "registry.example.com/pause:3.6": 300_000, "": 10}


@dataclass
class FakeCri:
    """Takes the place of a ``Channel``. What is wrong with it is said by its fields."""

    images: Mapping[str, int] = field(default_factory=lambda: IMAGES)
    handlers: tuple[str, ...] = ("", "wasmedge")
    # The Wasm handler is another program: it starts everything natively.
    wrong_handler: bool = False
    # So many pods are taken away by the kubelet as soon as they are there.
    taken: int = 0
    # The kubelet takes a pod away when so many containers have been in it; 0: it does not.
    lifetime: int = 0
    # So often the kubelet is taking the same pod away when it is to be removed.
    in_the_way: int = 0
    wasm_ms: float = 24.0
    native_ms: float = 20.0
    # By id: labels and the folder of the logs; the sandbox and what was asked for.
    sandboxes: dict[str, tuple[dict[str, str], Path]] = field(default_factory=dict)
    containers: dict[str, tuple[str, Message]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    # Containers that were made in each sandbox.
    made: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def call(self, method: str, request: grpc.Fields = ()) -> bytes:
        name = method.rpartition("/")[2]
        self.calls.append(name)
        # What goes over the wire is what is answered to.
        answer: grpc.Fields = getattr(self, f"_{name}")(Message(grpc.encode(request)))
        return grpc.encode(answer)

    def close(self) -> None:
        """Nothing is open."""

    def _ListImages(self, _: Message) -> grpc.Fields:  # noqa: N802 - CRI's names
        return [(1, [(1, f"sha256:{size}"), (2, name), (4, size)]) for name, size in self.images.items()]

    def _ListPodSandbox(self, _: Message) -> grpc.Fields:  # noqa: N802
        return [
            (1, [(1, one), *((5, [(1, key), (2, value)]) for key, value in labels.items())])
            for one, (labels, _) in self.sandboxes.items()
        ]

    def _RunPodSandbox(self, request: Message) -> grpc.Fields:  # noqa: N802
        handler, config = request.text(2), request.message(1)
        if handler not in self.handlers:
            raise GrpcError(f'failed to get sandbox runtime: no runtime for "{handler}" is configured')
        self.number += 1
        made = f"pod{self.number:061}"
        if self.taken > 0:
            self.taken -= 1
        else:
            labels = {one.text(1): one.text(2) for one in config.messages(6)}
            self.sandboxes[made] = (labels, Path(config.text(3)))
        return [(1, made)]

    def _CreateContainer(self, request: Message) -> grpc.Fields:  # noqa: N802
        if request.text(1) not in self.sandboxes:
            raise GrpcError(f'failed to find sandbox id "{request.text(1)}": not found')
        self.made[request.text(1)] += 1
        if self.lifetime and self.made[request.text(1)] > self.lifetime:
            raise GrpcError(f'sandbox container "{request.text(1)}" is not running')
        self.number += 1
        made = f"box{self.number:061}"
        self.containers[made] = (request.text(1), request.message(2))
        return [(1, made)]

    def _StartContainer(self, request: Message) -> grpc.Fields:  # noqa: N802
        sandbox, config = self.containers[request.text(1)]
        program, *args = config.texts(3)
        native = not program.endswith(".wasm")
        source = Path(config.message(7).text(2), Path(program).name)
        if native:
            line = subprocess.run([source], capture_output=True, check=True).stdout.decode().rstrip("\n")
        else:
            line = f"exec {program}: Exec format error" if self.wrong_handler else "\0".join((program, *args))
        at = NOW + (self.native_ms if native else self.wasm_ms) / 1000
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        (self.sandboxes[sandbox][1] / config.text(11)).write_text(f"{stamp} stdout F {line}\n{stamp} stdout F more\n")
        return []

    def _StopContainer(self, request: Message) -> grpc.Fields:  # noqa: N802
        assert request.text(1) in self.containers
        return []

    def _RemoveContainer(self, request: Message) -> grpc.Fields:  # noqa: N802
        del self.containers[request.text(1)]
        return []

    def _StopPodSandbox(self, _: Message) -> grpc.Fields:  # noqa: N802
        return []

    def _RemovePodSandbox(self, request: Message) -> grpc.Fields:  # noqa: N802
        if self.in_the_way > 0:
            self.in_the_way -= 1
            raise GrpcError("failed to remove container: container is already in removing state")
        self.sandboxes.pop(request.text(1), None)
        self.containers = {name: one for name, one in self.containers.items() if one[0] != request.text(1)}
        return []


@dataclass(frozen=True)
class Message:
    """A protobuf message, read by the numbers of its fields."""

    content: bytes

    def texts(self, number: int) -> list[str]:
        return [value.decode() for key, value in grpc.decode(self.content) if key == number]

    def text(self, number: int) -> str:
        return next(iter(self.texts(number)), "")

    def messages(self, number: int) -> list[Message]:
        return [Message(value) for key, value in grpc.decode(self.content) if key == number]

    def message(self, number: int) -> Message:
        return self.messages(number)[0]
