#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_node
short_description: Hold a node and its cluster to what is declared
description:
  - Labels and taints of one node, and objects of the cluster, in one round trip. Runs on a server, also for the nodes
    of its agents.
  - What was declared before and no longer is, is removed; labels and taints of others stay. The node remembers in
    its annotations what was declared.
options:
  name:
    description: Name of the node.
    type: str
    required: true
  state:
    description: V(absent) takes the node out of the cluster, with its password.
    type: str
    choices: [present, absent]
    default: present
  labels:
    description: Labels of the node.
    type: dict
    default: {}
  taints:
    description: Taints of the node, each as C(key=value:Effect).
    type: list
    elements: str
    default: []
  objects:
    description: Network policies and service accounts of the cluster, each labelled as O(owner)'s.
    type: list
    elements: dict
    default: []
  owner:
    description: Objects that carry this label C(edgefleet.wasm/part) and are not in O(objects) are removed.
    type: str
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Without a K3s that answers, nothing is compared and a change is reported.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Label and taint the node of a host
  edgefleet.wasm.k3s_node:
    name: edge1
    labels: {node-type: edge}
    taints: ["camera=usb:NoSchedule"]
"""

RETURN = r"""
differing:
  description: What was changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["Node edge1: label node-type=edge"]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s import K3S, PATIENCE_SECONDS, K3sError, Kubectl
from ansible_collections.edgefleet.wasm.plugins.module_utils.k3s_node import Cluster

KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "labels": {"type": "dict", "default": {}},
    "taints": {"type": "list", "elements": "str", "default": []},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "owner": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    absent = params["state"] == "absent"
    if not Path(K3S).exists() or not Path(KUBECONFIG).exists():
        if absent or module.check_mode:
            module.exit_json(changed=not absent, differing=[])
        module.fail_json(msg="this host has no K3s server that has come up; run the role k3s for it first")
    cluster = Cluster(Kubectl(module.run_command, patience=PATIENCE_SECONDS), check=module.check_mode)
    try:
        if absent:
            cluster.forget(params["name"])
        else:
            if params["owner"]:
                cluster.objects(params["objects"], params["owner"])
            cluster.node(params["name"], params["labels"], params["taints"])
    except K3sError as error:
        if module.check_mode:
            # It may be down for the restart that this very run would make, or the node may not be there yet.
            module.exit_json(changed=True, differing=[], msg=str(error))
        module.fail_json(msg=str(error), changed=bool(cluster.done), differing=cluster.done)
    module.exit_json(changed=bool(cluster.done), differing=cluster.done, diff=cluster.diff)


if __name__ == "__main__":
    main()
