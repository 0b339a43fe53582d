# SPDX-License-Identifier: Apache-2.0
"""The controller's side of every module whose input is a file of the mirror.

Verify on the controller; ask the module whether the host needs the file; only then carry it over and ask again. An
unchanged host costs one round trip, a check of the mirror none.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.edgefleet.wasm.plugins.module_utils.mirror import Entry, Mirror, MirrorError, Release


class MirrorAction(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """``arguments`` and ``required_if`` are the module's own."""

    module: str
    arguments: dict[str, Any]
    required_if: list[tuple[str, str, tuple[str, ...]]]
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        _, params = self.validate_argument_spec(self.arguments, required_if=self.required_if)
        try:
            entry = None if params["state"] == "absent" else _verify(params)
        except MirrorError as error:
            return {**result, "failed": True, "msg": str(error)}
        if params["state"] == "verified":
            return {**result, "changed": False, "artifact": _provenance(params, entry)}
        try:
            return {**result, **self._on_host(params, entry, task_vars or {})}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _on_host(self, params: dict[str, Any], entry: Entry | None, task_vars: dict[str, Any]) -> dict[str, Any]:
        passed: dict[str, Any] = {"temporary": self._temporary_folder()}
        if entry:
            passed["artifact"] = _provenance(params, entry)
        first = self._module(params, passed, task_vars)
        if first.get("failed") or not first.pop("needs_file", False) or self._task.check_mode or entry is None:
            return first
        try:
            passed["source"] = self._carry(params)
        except AnsibleError as error:
            name = f"{entry.name} {entry.version} {entry.arch}"
            reason = re.sub(r"\s+", " ", str(error)).strip()
            return {"failed": True, "msg": f"{name} could not be sent to the host: {reason}; nothing was changed"}
        second = self._module(params, passed, task_vars)
        second.pop("needs_file", None)
        if "diff" in first and "diff" in second:
            # What was there before is known from the first look alone.
            second["diff"] = {**second["diff"], "before": first["diff"]["before"]}
        return second

    def _module(self, params: dict[str, Any], passed: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=self.module,
            module_args={**{key: value for key, value in params.items() if value is not None}, "passed": passed},
            task_vars=task_vars,
        )
        answer.pop("invocation", None)
        return answer

    def _carry(self, params: dict[str, Any]) -> str:
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        target: str = shell.join_path(shell.tmpdir, "artifact")
        self._transfer_file(str(Mirror(params["mirror"]).path(_release(params))), target)
        self._fixup_perms2((shell.tmpdir, target))
        return target

    def _temporary_folder(self) -> str:
        """Where a file that is sent lies first, as the module (which may run as another user) can look it up."""
        folder = str(self.get_shell_option("remote_tmp", default="~/.ansible/tmp"))
        user = self._get_remote_user()
        first, *rest = PurePosixPath(folder).parts
        return str(PurePosixPath(f"~{user}", *rest)) if first == "~" and user else folder


def _release(params: dict[str, Any]) -> Release:
    return Release(
        name=params["name"],
        version=params["version"],
        arch=params["arch"],
        file=params["file"],
        sha256=params["sha256"] or None,
    )


def _verify(params: dict[str, Any]) -> Entry:
    return Mirror(params["mirror"]).verify(_release(params), allow_rebuilt=params["allow_rebuilt"])


def _provenance(params: dict[str, Any], entry: Entry | None) -> dict[str, Any]:
    assert entry is not None  # noqa: S101 - for the type checker: only state=absent has none
    return {
        "name": entry.name,
        "version": entry.version,
        "arch": entry.arch,
        "sha256": entry.sha256,
        "pinned_sha256": params["sha256"] or None,
        "source": entry.source,
        "rebuilt": entry.rebuilt,
        "size": entry.size,
    }
