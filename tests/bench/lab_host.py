"""A lab's host, ready to be measured: programs run there with nothing but the host's own Python."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Mirror, Release
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import probes
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.elf import native_program

from lab import ssh
from lab.builders import oci, wasm
from lab.builders.base import host_arch
from lab.hosts import Host
from lab.paths import LabPaths
from lab.progress import Progress
from lab.session import Lab
from tests.bench.onhost import cold, sides
from tests.bench.record import ROOT

PLUGINS = "ansible_collections/edgefleet/wasm/plugins"
HERE = "tests/bench/onhost"
PROGRAM = "/run/edgefleet-bench.pyz"
SECONDS = 7200
WASM_IMAGE = "registry.example.com/edgefleet/bench-wasm:1"
NATIVE_IMAGE = "registry.example.com/edgefleet/bench-native:1"
SERVICE_IMAGES = ("skeleton-image", "skeleton-native-image")


class BenchHost:
    """The first host of a lab that has been through ``python -m lab run``."""

    def __init__(self, name: str) -> None:
        self.lab = Lab(LabPaths.of(name), Progress())
        found = self.lab.hosts.status()
        if not found:
            sys.exit(f"no host in the lab {name}: .venv/bin/python -m lab run --name {name}")
        self.host: Host = found[0].host

    def shell(self, script: str, given: bytes = b"") -> str:
        """What a script prints, run on the host as root; ends the program when it fails."""
        command = [
            *ssh.command(self.lab.paths, self.host, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
            f"sudo sh -c {shlex.quote(script)}",
        ]
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=False, timeout=SECONDS)
        if done.returncode != 0:
            sys.exit(f"{self.host.name}: `{script[:100]}` ended with {done.returncode}")
        return done.stdout.decode()

    def measure(self, what: str, **asked: Any) -> Any:
        """Run one measurement of ``tests/bench/onhost`` on the host."""
        # Not among the processes of sshd, whose number systemd limits: many are started at once.
        apart = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property=TasksMax=infinity"]
        words = [*apart, "python3", PROGRAM, json.dumps({"what": what, **asked})]
        return json.loads(self.shell(shlex.join(words)).splitlines()[-1])

    def bring_service_images(self) -> None:
        """The service as a Wasm and as a native image, in containerd."""
        mirror = Mirror(self.lab.paths.mirror)
        for entry in mirror.entries():
            if entry.name in SERVICE_IMAGES:
                file = mirror.path(Release(entry.name, entry.version, entry.arch, entry.file))
                self.shell("ctr --namespace k8s.io images import - >&2", file.read_bytes())

    def identity(self) -> dict[str, Any]:
        """What the figures depend on beside this machine."""
        versions = self.shell(
            "crun --version | head -1; runc --version | head -1; containerd --version; k3s --version | head -1; "
            "dpkg-query -W -f '${Package} ${Version}\\n' libwasmedge0; cat /run/edgefleet/wasm-engine"
        )
        return {"lab": self.lab.paths.name, "kind": self.lab.topology.kind.value, "versions": versions.splitlines()}


@contextmanager
def ready(name: str) -> Iterator[BenchHost]:
    """The host with runc, the sides that no site has, and the program; after it all but runc is taken away."""
    bench = BenchHost(name)
    bench.shell(
        "command -v runc >/dev/null || { apt-get -qq update && "
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends runc >/dev/null 2>&1; }"
    )
    bench.shell(f"cat > {PROGRAM}", program(Mirror(bench.lab.paths.mirror)))
    systemd = "SystemdCgroup = true" in bench.shell("cat /etc/containerd/config.toml")
    dropin = bench.measure("dropin", systemd=systemd)
    restart = "systemctl restart containerd && ctr version >/dev/null"
    # The kubelet ends sandboxes that it does not know within seconds.
    bench.shell(f"systemctl stop k3s && cat > {sides.DROPIN} && {restart}", dropin.encode())
    try:
        yield bench
    finally:
        bench.shell(f"rm -f {PROGRAM} {sides.DROPIN} && {restart} && systemctl start k3s")


def program(mirror: Mirror) -> bytes:
    """What runs on the host, in one archive that Python can start: programs, the collection's part in them, images."""
    compiled = next((one for one in probes.compiled_probes(mirror) if one.engine_version == wasm.ENGINE_VERSION), None)
    if compiled is None:
        sys.exit(f"the mirror {mirror.root} has no compiled probes: .venv/bin/python -m lab artifacts")
    echo = compiled.modules["echo"]
    files = {
        "__main__.py": f"from {HERE.replace('/', '.')}.__main__ import main\nmain()\n".encode(),
        "data/echo.wasm": echo,
        "data/images.tar": oci.archive(*images(echo)),
        "data/images.json": json.dumps(image_names(mirror)).encode(),
        **sources(ROOT / HERE, HERE),
        **sources(ROOT / "plugins" / "module_utils", f"{PLUGINS}/module_utils"),
    }
    for name in list(files):
        for folder in list(Path(name).parents)[:-1]:
            if not name.startswith("data/"):
                files.setdefault(f"{folder}/__init__.py", b"")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sources(folder: Path, place: str) -> dict[str, bytes]:
    return {f"{place}/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.py")}


def images(echo: bytes) -> list[oci.Image]:
    """A WebAssembly program and a native one that print a line and end."""
    arch = host_arch()
    native = native_program(arch, cold.TEXT)
    return [
        oci.Image(WASM_IMAGE, arch, [oci.ImageFile("/probe.wasm", echo, 0o555)], ["/probe.wasm"], wasm.USER),
        oci.Image(NATIVE_IMAGE, arch, [oci.ImageFile("/native", native, 0o555)], ["/native"], wasm.USER),
    ]


def image_names(mirror: Mirror) -> Mapping[str, str]:
    """The images' names by what they are for."""
    version = {entry.name: entry.version for entry in mirror.entries()}
    return {
        "wasm": WASM_IMAGE,
        "native": NATIVE_IMAGE,
        "service_wasm": f"{wasm.REPOSITORY}/skeleton:{version['skeleton-image']}",
        "service_native": f"{wasm.REPOSITORY}/skeleton-native:{version['skeleton-native-image']}",
    }
