# SPDX-License-Identifier: Apache-2.0
"""The controller's side of every module whose input is a file of the mirror.

Verify on the controller; ask the module whether the host needs the file; only then carry it over and ask again. An
unchanged host costs one round trip, a check of the mirror none.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
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
            release = self.release(params)
            entry = release and Mirror(params["mirror"]).verify(release, params.get("allow_rebuilt", False))
            if release and entry:
                self.inspect(params, Mirror(params["mirror"]).path(release), entry)
        except MirrorError as error:
            return {**result, "failed": True, "msg": str(error)}
        provenance = _provenance(release, entry) if release and entry else None
        if params.get("state") == "verified":
            return {**result, "changed": False, "artifact": provenance}
        try:
            return {**result, **self._on_host(params, release, provenance, task_vars or {})}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def release(self, params: dict[str, Any]) -> Release | None:
        """What the task needs of the mirror, if anything."""
        if params["state"] == "absent":
            return None
        names = ("name", "version", "arch", "file")
        return Release(**{name: params[name] for name in names}, sha256=params["sha256"] or None)

    def inspect(self, params: dict[str, Any], file: Path, entry: Entry) -> None:
        """Look into the verified file; a MirrorError ends the task before the host is asked."""
        del params, file, entry

    def passed(self, params: dict[str, Any]) -> dict[str, Any]:
        """What else the module is told."""
        del params
        return {}

    def _on_host(
        self,
        params: dict[str, Any],
        release: Release | None,
        provenance: dict[str, Any] | None,
        task_vars: dict[str, Any],
    ) -> dict[str, Any]:
        passed: dict[str, Any] = {"temporary": self._temporary_folder(), **self.passed(params)}
        if provenance:
            passed["artifact"] = provenance
        first = self._module(params, passed, task_vars)
        if first.get("failed") or not first.pop("needs_file", False) or self._task.check_mode or release is None:
            return first
        try:
            passed["source"] = self._carry(Mirror(params["mirror"]).path(release))
        except AnsibleError as error:
            name = f"{release.name} {release.version} {release.arch}"
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

    def _carry(self, file: Path) -> str:
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        target: str = shell.join_path(shell.tmpdir, "artifact")
        self._transfer_file(str(file), target)
        self._fixup_perms2((shell.tmpdir, target))
        return target

    def _temporary_folder(self) -> str:
        """Where a file that is sent lies first, as the module (which may run as another user) can look it up."""
        folder = str(self.get_shell_option("remote_tmp", default="~/.ansible/tmp"))
        user = self._get_remote_user()
        first, *rest = PurePosixPath(folder).parts
        return str(PurePosixPath(f"~{user}", *rest)) if first == "~" and user else folder


def _provenance(release: Release, entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "arch": entry.arch,
        "sha256": entry.sha256,
        "pinned_sha256": release.sha256,
        "source": entry.source,
        "rebuilt": entry.rebuilt,
        "size": entry.size,
    }
