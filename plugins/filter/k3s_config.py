# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_config import merge


class FilterModule:
    """Documented in the .yml file beside this one, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"k3s_config_merge": merge}
