"""The filter that reads what containerd prints."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.edgefleet.wasm.plugins.filter.from_toml import FilterModule

from_toml = FilterModule().filters()["from_toml"]


def test_plugin_names_with_dots_are_single_keys() -> None:
    text = "version = 3\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'pause:3.6'\n"
    expected = {"version": 3, "plugins": {"io.containerd.cri.v1.images": {"pinned_images": {"sandbox": "pause:3.6"}}}}
    assert from_toml(text) == expected


def test_text_that_is_no_toml() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^from_toml: no TOML document: .*line 1"):
        from_toml("containerd: no such file")


def test_what_is_no_text() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^from_toml: text is wanted, not dict"):
        from_toml({})
