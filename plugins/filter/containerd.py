# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

_DROPIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NAME = re.compile(r"(_default|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?)")
_URL = re.compile(r"https?://[^\s/\"]+(/[^\s\"]*)?")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.+-----END CERTIFICATE-----\s*", re.DOTALL)
_CAPABILITIES = {"pull", "resolve", "push"}
_REGISTRY_KEYS = {"server", "hosts"}
_HOST_KEYS = {"url", "capabilities", "ca", "skip_verify", "override_path", "username", "password"}


def containerd_dropin_files(dropins: Any, folder: str) -> list[dict[str, str]]:
    if not isinstance(dropins, Mapping):
        raise AnsibleFilterError("containerd_dropins: a dictionary of TOML texts by name is wanted")
    for name, content in dropins.items():
        if not _DROPIN.fullmatch(str(name)):
            raise AnsibleFilterError(f"containerd_dropins['{name}']: a name has a to z, 0 to 9 and hyphens only")
        if not isinstance(content, str):
            raise AnsibleFilterError(f"containerd_dropins['{name}']: TOML text is wanted; write it after `|`")
    return [{"path": f"{folder}/60-{name}.toml", "content": dropins[name]} for name in sorted(dropins)]


def containerd_registry_files(registries: Any, folder: str) -> dict[str, list[dict[str, str]]]:
    if not isinstance(registries, Mapping):
        raise AnsibleFilterError("containerd_registries: a dictionary of registries by name is wanted")
    made: dict[str, list[dict[str, str]]] = {"files": [], "secret_files": []}
    for name in sorted(registries):
        for path, content, secret in _registry(str(name), registries[name] or {}, f"{folder}/{name}"):
            made["secret_files" if secret else "files"].append({"path": path, "content": content})
    return made


def _registry(name: str, registry: Any, folder: str) -> list[tuple[str, str, bool]]:
    where = f"containerd_registries['{name}']"
    if not _NAME.fullmatch(name):
        raise AnsibleFilterError(f"{where}: the name is a host, with :port where it has one, or _default")
    _require_keys(registry, _REGISTRY_KEYS, where)
    lines = []
    if "server" in registry:
        lines.append(f"server = {_url(registry['server'], f'{where}.server')}")
    files = []
    hosts = registry.get("hosts", [])
    if not isinstance(hosts, Sequence) or isinstance(hosts, str):
        raise AnsibleFilterError(f"{where}.hosts: a list is wanted, in the order in which they are tried")
    for number, host in enumerate(hosts):
        at = f"{where}.hosts[{number}]"
        _require_keys(host, _HOST_KEYS, at)
        if "ca" in host:
            files.append((f"{folder}/ca-{number}.crt", _certificate(host["ca"], f"{at}.ca"), False))
        lines += _host(host, at, f"{folder}/ca-{number}.crt")
    if not lines:
        raise AnsibleFilterError(f"{where} says nothing; give it a server or hosts")
    secret = any("password" in host for host in hosts)
    text = "# Ansible managed\n" + "\n".join(lines) + "\n"
    return [*files, (f"{folder}/hosts.toml", text, secret)]


def _host(host: Mapping[str, Any], at: str, ca: str) -> list[str]:
    if "url" not in host:
        raise AnsibleFilterError(f"{at}.url is missing")
    url = _url(host["url"], f"{at}.url")
    capabilities = host.get("capabilities", ["pull", "resolve"])
    if not isinstance(capabilities, list) or not capabilities or not set(capabilities) <= _CAPABILITIES:
        raise AnsibleFilterError(f"{at}.capabilities: a list of pull, resolve and push is wanted")
    lines = ["", f"[host.{url}]", f"capabilities = {json.dumps(capabilities)}"]
    if "ca" in host:
        lines.append(f"ca = {json.dumps(ca)}")
    for key in ("skip_verify", "override_path"):
        if host.get(key):
            lines.append(f"{key} = true")
    if ("username" in host) != ("password" in host):
        raise AnsibleFilterError(f"{at}: username and password go together")
    if "password" in host:
        if not str(host["url"]).startswith("https://"):
            raise AnsibleFilterError(f"{at}: a password over http could be read on the way; use https")
        pair = base64.b64encode(f"{host['username']}:{host['password']}".encode()).decode()
        lines += [f"[host.{url}.header]", f'authorization = ["Basic {pair}"]']
    return lines


def _require_keys(value: Any, known: set[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"{where}: a dictionary is wanted")
    unknown = sorted(set(map(str, value)) - known)
    if unknown:
        raise AnsibleFilterError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _url(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise AnsibleFilterError(f"{where}: {value!r} is no URL such as https://mirror.example.com:5000")
    return json.dumps(value)


def _certificate(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _CERTIFICATE.fullmatch(value.strip()):
        raise AnsibleFilterError(
            f"{where}: the text of a certificate (PEM) is wanted, as lookup('ansible.builtin.file', ...) reads it"
        )
    return value.strip() + "\n"


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "containerd_dropin_files": containerd_dropin_files,
            "containerd_registry_files": containerd_registry_files,
        }
