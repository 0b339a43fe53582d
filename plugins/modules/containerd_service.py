#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_service
short_description: Have containerd run with the files that it has now
description:
  - Restarts C(containerd.service) if its unit, its program or its configuration has changed since it was started,
    enables and starts it, and waits until it answers. In one round trip.
  - What counts is the age of the files, not what changed in this play, so a run that was cut is finished by the next.
  - Containers run on while containerd is restarted. Files in C(/etc/containerd/certs.d) need no restart.
options:
  timeout:
    description: Seconds to wait for its answer.
    type: int
    default: 30
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
- name: Run containerd with its new files
  edgefleet.wasm.containerd_service:
"""

RETURN = r"""
restarted:
  description: Whether it was running and was restarted.
  returned: success
  type: bool
newer:
  description: What had changed since it was started.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.containerd_service import Service, ServiceError, ensure


def main() -> None:
    module = AnsibleModule(
        argument_spec={"timeout": {"type": "int", "default": 30}},
        supports_check_mode=True,
    )
    try:
        outcome = ensure(Service(module.run_command), check=module.check_mode, timeout=module.params["timeout"])
    except (ServiceError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=outcome.changed, restarted=outcome.restarted, newer=outcome.newer)


if __name__ == "__main__":
    main()
