#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_preflight
short_description: See whether a host can have the K3s that is declared for it, and what is there already
description:
  - Judges the declaration by itself on the controller; then looks at the host in one round trip and judges both
    together. Fails with every reason at once, each with the way out. Reads only.
  - "The declaration: keys that K3s does not have, or has on the other role only; values that YAML or K3s reads
    otherwise than meant; networks, ports, labels, taints and component arguments that K3s, the kubelet or the API
    server would refuse, or that lose a safety; figures that leave pods nothing."
  - "The host: systemd, distribution, memory, disk, cgroup controllers, clock, the port; whether it is a K3s of the
    other role; files in C(config.yaml.d); the service's environment; and keys that can't be changed on a cluster that
    exists."
options:
  role:
    description: What the host is to be.
    type: str
    choices: [server, agent]
    required: true
  config:
    description: The operator's keys of K3s's configuration.
    type: dict
    required: true
  own:
    description: The role's keys, which O(config) comes over.
    type: dict
    required: true
  keys:
    description: The keys that K3s has, each with C(on) (server, agent or both) and C(type).
    type: dict
    required: true
  labels:
    description: Labels of the node.
    type: dict
    required: true
  taints:
    description: Taints of the node, each as C(key=value:Effect).
    type: list
    elements: str
    required: true
  system_reserved:
    description: What is reserved for the system.
    type: dict
    required: true
  kube_reserved:
    description: What is reserved for K3s and containerd.
    type: dict
    required: true
  eviction_hard:
    description: When the kubelet evicts pods.
    type: dict
    required: true
  cis:
    description: Whether the CIS profile is wanted.
    type: bool
    required: true
  server_url:
    description: The address of an agent's server.
    type: str
    default: ""
  token:
    description: The cluster's token, where it is declared.
    type: str
    default: ""
  min_memory_mb:
    description: Megabytes of memory that the host must have.
    type: int
    required: true
  min_disk_mb:
    description: Megabytes that must be free where K3s and containerd keep their data.
    type: int
    required: true
  port:
    description: For the action plugin, which passes on the port that K3s takes. Not for use in a playbook.
    type: int
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: See whether the host can have this K3s
  edgefleet.wasm.k3s_preflight:
    role: server
    config: "{{ k3s_config }}"
    own: {}
    keys: "{{ keys_of_k3s }}"
    labels: "{{ k3s_node_labels }}"
    taints: []
    system_reserved: {memory: 512Mi}
    kube_reserved: {memory: 768Mi}
    eviction_hard: {memory.available: 256Mi, nodefs.available: 5%, imagefs.available: 5%}
    cis: true
    min_memory_mb: 1800
    min_disk_mb: 4096
"""

RETURN = r"""
host:
  description: What was found.
  returned: when the host was looked at
  type: dict
  contains:
    cpus:
      description: Number of CPUs.
      type: int
      returned: always
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
    unit_up:
      description: Whether the service runs, or is about to, and is started at boot.
      type: bool
      returned: always
    existing:
      description: Whether K3s has run here in this role before.
      type: bool
      returned: always
    encrypts:
      description: Whether the server's datastore has its Secrets encrypted.
      type: bool
      returned: always
    stale:
      description: Whether the process is older than a file that it reads at its start, so that it needs a restart.
      type: bool
      returned: always
node:
  description: The name that K3s gives the node unless C(node-name) is set.
  returned: when the host was looked at
  type: str
problems:
  description: One sentence for each reason not to go on.
  returned: failure
  type: list
  elements: str
"""

import os
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3sError
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_host import inspect

ARGUMENTS = {
    "role": {"type": "str", "choices": ["server", "agent"], "required": True},
    "port": {"type": "int", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        host = inspect(module.run_command, module.params["port"], role=module.params["role"])
    except (K3sError, OSError, ValueError) as error:
        module.fail_json(msg=f"this host can't be examined: {error}", problems=[str(error)])
    module.exit_json(changed=False, host=asdict(host), node=os.uname().nodename.lower())


if __name__ == "__main__":
    main()
