"""The programs that policies are tested with: built once, kept in the cache."""

from __future__ import annotations

import pytest

from lab.builders import opa
from lab.builders.opa import PolicyTools
from lab.paths import cache_root
from lab.progress import Progress


@pytest.fixture(scope="session")
def tools() -> PolicyTools:
    """OPA, gator and the API server's admission code."""
    return opa.tools(cache_root(), Progress()).ensure()
