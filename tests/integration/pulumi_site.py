"""What the tests of the Pulumi programs need of a lab host, and the CLI as they run it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgefleet_pulumi.images import needed, of_platform
from edgefleet_pulumi.model import PlatformConfig, checked, load_industries, load_industry
from lab import ssh
from lab.builders import pulumi, servers, wasm
from lab.builders.base import host_arch
from lab.builders.toolchain import Toolchain
from lab.hosts import Host
from lab.paths import CHECKOUT
from lab.progress import Progress
from lab.session import Lab
from tests.integration.hosts import shell, until

PROJECTS = CHECKOUT / "pulumi"
SYSTEMS = tuple(load_industries())


@dataclass(frozen=True)
class Site:
    """One host with K3s on it, as somebody with its kubeconfig sees it."""

    lab: Lab
    host: Host
    folder: Path
    references: Mapping[str, str]

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def kubectl(self, *words: str) -> str:
        return shell(self.lab.hosts, self.host, "k3s kubectl " + " ".join(f"'{word}'" for word in words))

    def items(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
        return found

    def apply(self, *documents: Mapping[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        encoded = base64.b64encode(text.encode()).decode()
        shell(self.lab.hosts, self.host, f"echo {encoded} | base64 -d | k3s kubectl apply -f - 2>&1 > /dev/null")

    def namespaces(self) -> set[str]:
        return set(self.kubectl("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split())

    def open_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """A namespace without a Pod Security Standard, whose refusals would come before those of the policies."""
        labelled = {"pod-security.kubernetes.io/enforce": "privileged", **(labels or {})}
        metadata = {"name": name, "labels": labelled}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        until(f"an account in {name}", 30, lambda: bool(self.items("serviceaccounts", name)))

    def in_pod(self, namespace: str, name: str, command: str) -> tuple[int, str]:
        """Run a command of the host in the network of a pod, found by its label; its code and output."""
        label = f"app.kubernetes.io/name={name}"
        script = f"""
        id=$(k3s crictl pods --namespace {namespace} --label {label} --state ready --latest --quiet 2>/dev/null)
        process=$(k3s crictl inspectp --output go-template --template '{{{{.info.pid}}}}' "$id" 2>/dev/null)
        [ -n "$process" ] || {{ echo no pod; exit 99; }}
        nsenter --net=/proc/$process/ns/net {command}
        """
        code, said = self.lab.hosts.exec(self.host.name, ["sh", "-c", script])
        assert code != 99, f"{namespace}: no pod {name} runs"
        return code, said

    def refused(self, document: Mapping[str, Any]) -> str:
        """What the API server says to a new object that is not kept; empty where it admits it."""
        encoded = base64.b64encode(json.dumps(document).encode()).decode()
        create = f"echo {encoded} | base64 -d | k3s kubectl create --dry-run=server -f - 2>&1"
        code, said = self.lab.hosts.exec(self.host.name, ["sh", "-c", create])
        return said if code else ""

    def secrets(self, namespace: str) -> dict[tuple[str, str], str]:
        """Every value that the site made, by the names of Secret and key."""
        return {
            (item["metadata"]["name"], key): base64.b64decode(value).decode()
            for item in self.items("secrets", namespace)
            for key, value in item.get("data", {}).items()
        }


def site_of(lab: Lab, host: Host, folder: Path, systems: Sequence[str] = SYSTEMS) -> Site:
    """The site with the images of all servers, and the skeleton service under the name of each system."""
    _fetch_kubeconfig(lab, host, folder / "kubeconfig")
    built = servers.servers(lab.paths.cache, Progress()).ensure()
    _carry_images(lab, host, set(built.values()))
    skeleton = wasm.SkeletonImage(Toolchain(lab.paths.cache / "toolchain", Progress()), host_arch()).image
    for system in systems:
        _name_image(lab, host, skeleton, stand_in(system))
    stand_ins = {system: stand_in(system) for system in systems}
    return Site(lab, host, folder, {**{name: one.reference for name, one in built.items()}, **stand_ins})


def stand_in(system: str) -> str:
    """The name of the image that stands in for a system's service: policies know Wasm images by their repository."""
    return f"registry.example.com/{system}:skeleton"


def _name_image(lab: Lab, host: Host, image: str, name: str) -> None:
    """Give an image that is on the host another name, pinned like the first."""
    ctr = "ctr -n k8s.io images"
    shell(lab.hosts, host, f"{ctr} tag --force {image} {name} && {ctr} label {name} io.cri-containerd.pinned=pinned")


def _fetch_kubeconfig(lab: Lab, host: Host, path: Path) -> None:
    """The administrator's kubeconfig, for its user alone, with the host's own address."""
    command = [*ssh.command(lab.paths, host), "cat", "/etc/rancher/k3s/k3s.yaml"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    content = re.sub(r"server: https://[^:]+:", f"server: https://{host.address}:", said)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)


def _carry_images(lab: Lab, host: Host, built: set[servers.Built]) -> None:
    """Import the images that the host does not have, and pin all: the kubelet removes others when a disk fills."""
    present = shell(lab.hosts, host, "ctr -n k8s.io images ls -q").split()
    for one in sorted(built, key=lambda one: one.reference):
        if one.reference not in present:
            with one.file.open("rb") as content:
                command = [*ssh.command(lab.paths, host), "ctr", "-n", "k8s.io", "images", "import", "-"]
                subprocess.run(command, stdin=content, capture_output=True, check=True)
        shell(lab.hosts, host, f"ctr -n k8s.io images label {one.reference} io.cri-containerd.pinned=pinned")


def kill_session(session: int) -> None:
    """A power cut for all processes of a session: Pulumi puts its plugins into process groups of their own."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(status.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile


@dataclass(frozen=True)
class Stack:
    """The dev stack of one project, run by the real CLI from a copy of the project's folder."""

    site: Site
    project: str
    folder: Path
    # Where the package `edgefleet_pulumi` of the project lies.
    projects: Path = PROJECTS

    @classmethod
    def of(cls, site: Site, project: str, stack: str = "dev", projects: Path = PROJECTS, **changed: object) -> Stack:
        """A new copy of a project with a new state; `changed` are keys of the stack's configuration."""
        folder = site.folder / project
        shutil.copytree(projects / project, folder, ignore=shutil.ignore_patterns("bundle", "__pycache__"))
        file = folder / f"Pulumi.{stack}.yaml"
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        settings = content["config"][f"{project}:site"]
        settings.update(changed)
        known = images_of(project, projects.parent / "industries", settings)
        settings["references"] = {name: site.references[name] for name in known}
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        made = cls(site, project, folder, projects)
        made.run("stack", "init", stack)
        return made

    @property
    def environment(self) -> dict[str, str]:
        programs = pulumi.tools(self.site.lab.paths.cache, Progress()).ensure()
        found = pulumi.environment(programs, self.site.folder / "pulumi")
        ours = {"KUBECONFIG": str(self.site.kubeconfig), "PYTHONPATH": str(self.projects), "NO_COLOR": "1"}
        return {**found, **ours}

    def run(
        self, *words: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color", "never", *words],
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command as the head of a session of its own."""
        return subprocess.Popen(
            ["pulumi", "--non-interactive", "--color", "never", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def up(self) -> str:
        return self.run("up", "--yes", "--skip-preview").stdout

    def destroy(self) -> None:
        """Take everything away, and see that nothing is left in the state."""
        self.run("destroy", "--yes", "--skip-preview")
        assert json.loads(self.run("stack", "export").stdout)["deployment"].get("resources") in ([], None)

    def state(self) -> str:
        """All that Pulumi keeps, the past included."""
        folder = self.site.folder / "pulumi"
        return "".join(
            path.read_text(errors="replace")
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "passphrase"
        )


def ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is Ready."""
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def images_of(project: str, industries: Path, settings: Mapping[str, Any]) -> list[str]:
    """The images that a project names."""
    if project == "platform":
        return list(of_platform(checked(PlatformConfig, settings, project)))
    return list(needed(load_industry(industries / project / "industry.yml")))
