"""Every generated file is what its source makes today."""

from __future__ import annotations

import pytest

from tools import generate


def test_generated_files_are_new(capsys: pytest.CaptureFixture[str]) -> None:
    code = generate.main(["--check"])
    assert code == 0, capsys.readouterr()
