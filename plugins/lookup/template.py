# SPDX-License-Identifier: Apache-2.0
"""The text of a role's template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18 and before render every text

    def trust_as_template(value: str) -> str:
        return value


DOCUMENTATION = r"""
name: template
short_description: The text of a role's template
description:
  - As P(ansible.builtin.template#lookup), which copies every variable of the host, in depth, for each file. A role that
    renders twenty files spends most of the controller's time on that, for each host.
  - A template sees the same variables, but not C(template_path) and the like, nor C(ansible_managed).
options:
  _terms:
    description: Files, in the folder C(templates) of the role or beside the playbook.
    type: list
    elements: str
    required: true
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Show the unit that K3s would get
  ansible.builtin.debug:
    msg: "{{ lookup('edgefleet.wasm.template', 'k3s.service.j2') }}"
"""

RETURN = r"""
_raw:
  description: The texts.
  type: list
  elements: str
"""


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core ships no types
    """What ansible-core asks for by this name."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        texts = (self._templar.template(trust_as_template(self._text(term, variables))) for term in terms)
        # A template without any output is rendered to nothing at all.
        return ["" if text is None else str(text) for text in texts]

    def _text(self, term: str, variables: Mapping[str, Any] | None) -> str:
        path = self.find_file_in_search_path(variables, "templates", term)
        if not path:
            raise AnsibleLookupError(f"there is no template {term}: it is looked for in the folders named templates")
        return Path(path).read_text(encoding="utf-8")
