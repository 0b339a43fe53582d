"""An upgrade under guard and back again on the tests' host, while its workload answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.hosts import Host
from lab.session import Lab
from tests.integration.upgrades import OTHER, build, up_and_back

pytestmark = pytest.mark.lab


def test_up_and_back_while_the_workload_answers(lab: Lab, host: Host, tmp_path: Path) -> None:
    build(OTHER)
    up_and_back(lab, host, tmp_path)
