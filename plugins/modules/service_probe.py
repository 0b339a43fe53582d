#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: service_probe
short_description: Count the seconds in which a service is out of its SLO
description:
  - Asks a URL at a fixed rate, each request at its own time whatever became of earlier ones, and counts the seconds in
    which one of them failed or took too long.
  - Meant to run on the controller, C(delegate_to=localhost) and C(async), while something is done to the host of the
    service.
options:
  url:
    description:
      - What to ask. C(http) and C(https) get a GET request, an answer below 400 is right. C(mqtt) and C(mqtts) get a
        connection with no name, any answer of the broker is right.
      - Certificates are not checked.
    type: str
    required: true
  limit_ms:
    description: How long an answer may take, the link from here to the host with it.
    type: float
    required: true
  rate:
    description: Requests a second (1 to 100).
    type: float
    default: 10
  seconds:
    description: How long at most (1 to 7200).
    type: float
    required: true
  until_file:
    description:
      - Stop once this file is there, and all was well for O(settle) seconds since. Without it O(settle) counts alone.
    type: path
  settle:
    description: For how many seconds all must be well before it stops.
    type: float
    default: 5
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
- name: See that it answers
  edgefleet.wasm.service_probe:
    url: https://192.0.2.17:30081/readyz
    limit_ms: 30
    seconds: 20
    settle: 3
  delegate_to: localhost
"""

RETURN = r"""
seconds_out:
  description: How many seconds were out of the SLO.
  returned: success
  type: int
  sample: 3
seconds:
  description: How long was watched.
  returned: success
  type: float
requests:
  description: How many requests were sent.
  returned: success
  type: int
errors:
  description: How often what went wrong.
  returned: success
  type: dict
  sample: {"ConnectionRefusedError: Connection refused": 21}
worst_ms:
  description: The longest time that a right answer took, in ms; 0 if there was none.
  returned: success
  type: float
well:
  description: Whether all was well in the end, for O(settle) seconds.
  returned: success
  type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.service_probe import ProbeError, Until, asker, watch

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "limit_ms": {"type": "float", "required": True},
    "rate": {"type": "float", "default": 10},
    "seconds": {"type": "float", "required": True},
    "until_file": {"type": "path"},
    "settle": {"type": "float", "default": 5},
}
_RANGES = {"limit_ms": (1, 60000), "rate": (1, 100), "seconds": (1, 7200), "settle": (1, 600)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    for name, (low, high) in _RANGES.items():
        if not low <= params[name] <= high:
            module.fail_json(msg=f"{name} is {params[name]:g}, must be from {low} to {high}")
    file = Path(params["until_file"]) if params["until_file"] else None
    try:
        ask = asker(params["url"])
    except ProbeError as error:
        module.fail_json(msg=str(error))
    until = Until(most=params["seconds"], settle=params["settle"], file=file)
    seen = watch(ask, params["rate"], params["limit_ms"] / 1000, until)
    end = max((one.due for one in seen.answers), default=0.0)
    good = [one.seconds for one in seen.answers if not one.error]
    module.exit_json(
        changed=False,
        seconds_out=len(seen.seconds_out()),
        seconds=round(end, 1),
        requests=len(seen.answers),
        errors=seen.errors(),
        worst_ms=round(max(good, default=0.0) * 1000, 1),
        well=end - seen.good_since() >= params["settle"] - 2 / params["rate"],
    )


if __name__ == "__main__":
    main()
