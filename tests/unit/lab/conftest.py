"""What all tests of the lab's own code have in common."""

from __future__ import annotations

import pytest

from lab import cgroups


@pytest.fixture(autouse=True)
def _machines_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that are faked leave none, and this machine's are not to be touched."""
    monkeypatch.setattr(cgroups, "sweep", lambda: 0)
