#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_preflight
short_description: See whether a host can carry K3s, and what is there already
description:
  - Checks, in one round trip, that the host runs systemd, a supported distribution, has enough
    memory and disk and the cgroup controllers that the kubelet needs, and that nothing but K3s uses the API server's
    port.
  - Fails with every reason at once. Reads only.
options:
  min_memory_mb:
    description: Megabytes of memory that the host must have.
    type: int
    required: true
  min_disk_mb:
    description: Megabytes that must be free where K3s and containerd keep their data.
    type: int
    required: true
  port:
    description: The port of the API server.
    type: int
    default: 6443
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: See whether the host can carry K3s
  edgefleet.wasm.k3s_preflight:
    min_memory_mb: 1800
    min_disk_mb: 4096
"""

RETURN = r"""
host:
  description: What was found.
  returned: always
  type: dict
  contains:
    memory_mb:
      description: Megabytes of memory.
      type: int
      returned: always
    swap_mb:
      description: Megabytes of swap.
      type: int
      returned: always
    disks:
      description: Free megabytes by folder, each file system once.
      type: dict
      returned: always
    cgroup_version:
      description: 2 for the unified hierarchy, else 1.
      type: int
      returned: always
    absent_links:
      description: Which of the commands kubectl and crictl the host does not have.
      type: list
      elements: str
      returned: always
    unit_present:
      description: Whether the service exists.
      type: bool
      returned: always
    stale:
      description: Whether the process is older than a file that it reads at its start, so that it needs a restart.
      type: bool
      returned: always
problems:
  description: One sentence for each reason not to install.
  returned: failure
  type: list
  elements: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import Limits, inspect, notes, problems

ARGUMENTS = {
    "min_memory_mb": {"type": "int", "required": True},
    "min_disk_mb": {"type": "int", "required": True},
    "port": {"type": "int", "default": 6443},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    limits = Limits(**module.params)
    try:
        host = inspect(module.run_command, limits.port)
    except (K3sError, OSError, ValueError) as error:
        module.fail_json(msg=f"this host can't be examined: {error}", host={}, problems=[str(error)])
    found = problems(host, limits)
    if found:
        module.fail_json(msg=" ".join(found), host=asdict(host), problems=found)
    for note in notes(host):
        module.warn(note)
    module.exit_json(changed=False, host=asdict(host))


if __name__ == "__main__":
    main()
