#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: wasm_smoke
short_description: Prove on a host that its Wasm path is live, and measure its cold start
description:
  - Runs probe modules in containers of the host's own OCI runtime, with the configuration that pods get, and returns
    one document with a verdict line a check, the identity of what was tested, and the measured samples.
  - The plain probe modules are made on the controller, with the Python package wasmtime. Ahead-of-time compiled ones
    come out of the mirror (artifact C(wasm-probes)); where it has none for the host's engine and architecture, the
    lines that need them are C(not_applicable).
  - The host needs Python, and what is tested. Nothing on it is changed; the containers and files of a test are
    removed, and what a killed one left is removed by the next.
  - Each measurement is interleaved with a native control that does the same without an engine.
options:
  level:
    description:
      - How thorough the test is. V(quick) takes up to 10 seconds on a host, V(standard) up to 60, V(full) as long as it
        takes.
      - A line that needs a higher level is C(not_applicable) and says so.
    type: str
    choices: [quick, standard, full]
    default: quick
  runtime:
    description:
      - The OCI runtime on the host. If not said it is the one that Wasm pods get, as the role
        edgefleet.wasm.wasm_runtime has chosen it, else C(/usr/bin/crun).
    type: path
  cgroup_manager:
    description:
      - How the runtime makes cgroups. V(auto) does as pods do on such a host, V(systemd) where systemd has the unified
        hierarchy, else V(cgroupfs).
      - V(disabled) makes none, and sets no limits.
    type: str
    choices: [auto, systemd, cgroupfs, disabled]
    default: auto
  samples:
    description:
      - How many cold starts by the OCI runtime are measured on each side, after warm-up (5 to 1000).
      - If not said it is the level's number, 20, 40 or 100.
    type: int
  timeout:
    description: Seconds that one container may take (1 to 600).
    type: int
    default: 30
  fail_on:
    description:
      - V(function) fails the task if a check of the layer C(function) is C(fail) or C(invalid).
      - V(all) does so for every layer, speed too.
      - V(none) never does. The document is returned in any case.
    type: str
    choices: [none, function, all]
    default: function
  mirror:
    description: The mirror folder on the controller, for the compiled probes (see M(edgefleet.wasm.mirror)).
    type: path
  report_dir:
    description:
      - Folder on the controller that gets the document as C(<host>.json). That of an earlier run is replaced, or
        removed if the test could not be done. Nothing is written in check mode.
    type: path
  host:
    description: What the document calls the host. Its name in the inventory if not given.
    type: str
  targets:
    description:
      - What the host has to reach as a node of its system, as C(industries/<system>/smoke_targets.json) has it. Without
        it no load is sent, and the lines of load and site are C(not_applicable).
      - From O(level=standard) on.
    type: dict
  workload:
    description:
      - The workload that the system's rate is sent to, as it is deployed on the host. Without it the targets are judged
        by the collection's own reference service, which runs in any case as the measure for the ratio to native.
      - It really gets these requests. Name a path or a topic that changes nothing.
    type: dict
    suboptions:
      url:
        description:
          - Where it answers, seen from the host itself. C(http) or C(https) gets GET requests.
          - C(mqtt) or C(mqtts) gets messages on the topic that is the URL's path, C(edgefleet/smoke) if it has none;
            what comes back on the topic in C(?reply=), on the same one if not said, is the answer.
        type: str
        required: true
      namespace:
        description: The namespace of its pods, whose processor time and memory are counted.
        type: str
        required: true
      username:
        description: Who logs in at the MQTT broker; with O(workload.secret) and O(workload.key).
        type: str
      secret:
        description: The Secret in O(workload.namespace) with the password. It is read on the host, and stays there.
        type: str
      key:
        description: The password's key in that Secret.
        type: str
  load_kit:
    description: The load generators on the host. Filled in by the controller's half of this module, not to be given.
    type: path
  drill:
    description:
      - What the last drill of the host found. Filled in by the controller's half of this module from O(report_dir), not
        to be given.
    type: dict
  payload:
    description: The probe modules. Filled in by the controller's half of this module, not to be given.
    type: dict
notes:
  - Needs root on the host.
  - In check mode no container is started; the identity is read, and every line is C(not_applicable).
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: partial
    details: The host is identified; nothing is run on it, and no report is written.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
author:
  - The edgefleet maintainers
"""

EXAMPLES = r"""
- name: Prove the Wasm path
  edgefleet.wasm.wasm_smoke:
    mirror: "{{ edgefleet_mirror_dir }}"
    report_dir: ./reports
  register: smoke

- name: Prove it, and that it is fast, with more samples
  edgefleet.wasm.wasm_smoke:
    mirror: "{{ edgefleet_mirror_dir }}"
    samples: 100
    fail_on: all
"""

RETURN = r"""
msg:
  description: The outcome in one sentence. On failure it lists the checks that did not pass.
  returned: always
  type: str
  sample: "9 checks: 8 pass, 1 fail (cold_start_crun), 0 invalid, 0 not applicable"
passed:
  description: Whether every layer that O(fail_on) names passed.
  returned: when the test could be done
  type: bool
document:
  description: What was tested, and what came out. C(plugins/module_utils/smoke/schema.json) is its JSON Schema.
  returned: when the test could be done, whatever its verdicts
  type: dict
  contains:
    schema:
      description: Version of the document's layout.
      type: int
      returned: always
    host:
      description: The host's name in the inventory.
      type: str
      returned: always
    level:
      description: How thorough the test was, as O(level).
      type: str
      returned: always
    started:
      description: When the test began, UTC, ISO 8601.
      type: str
      returned: always
    seconds:
      description: How long it took.
      type: float
      returned: always
    check_mode:
      description: Whether this was check mode, so that nothing was run.
      type: bool
      returned: always
    identity:
      description: Host, versions as the programs print them, engine library and its LLVM, CPU, cgroups, artifacts.
      type: dict
      returned: always
    lines:
      description: One verdict a check, in a fixed order.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Name of the check.
          type: str
          returned: always
        layer:
          description: >-
            What the check is about: C(function); a cold start by the C(engine) in a process, by C(crun), through C(cri)
            or of a whole C(pod), on the C(controller) for reference; C(load) or C(site), the targets of the system that
            runs there.
          type: str
          returned: always
        what:
          description: What a pass says.
          type: str
          returned: always
        status:
          description: C(pass), C(fail), C(invalid) (can't be trusted) or C(not_applicable).
          type: str
          returned: always
        measured:
          description: The figure that was judged, or null.
          type: float
          returned: always
        limit:
          description: The figure that it was judged by, or null.
          type: float
          returned: always
        unit:
          description: Unit of both, or null.
          type: str
          returned: always
        n:
          description: Number of samples.
          type: int
          returned: always
        reason:
          description: Why it is not C(pass). Empty on pass.
          type: str
          returned: always
        cause:
          description: What the reason most likely comes from, as far as the host has shown it. Empty on pass.
          type: str
          returned: always
        next:
          description: What to look at or do next. Empty on pass.
          type: str
          returned: always
        details:
          description: Further figures by name, such as P95 and those of the native control.
          type: dict
          returned: always
    samples:
      description: The samples of each timed check by its id, by side.
      type: dict
      returned: always
    sections:
      description: Figures of a section of the test beyond its lines, by the section's name.
      type: dict
      returned: always
    summary:
      description: Number of lines by status.
      type: dict
      returned: always
    warnings:
      description: What a reader must know beside the verdicts, such as pins past their support and rebuilt artifacts.
      type: list
      elements: str
      returned: always
"""

import os
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke import identity
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.core import ARGUMENTS, SmokeSpec, smoke
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.model import Level, SmokeError
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.payload import Payload
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.process import run_command
from ansible_collections.edgefleet.wasm.plugins.module_utils.smoke.verdicts import complaint, outcome

# A login without a terminal may lack the folders of crun, containerd and k3s.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if os.geteuid() != 0:
        module.fail_json(msg="wasm_smoke starts containers and needs root: set become: true")
    os.environ["PATH"] = _PATH
    # Containers that run as nobody must be able to enter what is made for them, whatever the login's umask is.
    os.umask(0o022)
    try:
        spec = SmokeSpec(
            host=params["host"],
            runtime=params["runtime"] or identity.runtime(),
            cgroup_manager=params["cgroup_manager"],
            level=Level(params["level"]),
            samples=params["samples"],
            timeout=params["timeout"],
            payload=Payload.of(params["payload"]),
            check_mode=module.check_mode,
            options=params,
        )
        document = smoke(run_command, spec, lambda: datetime.now(UTC))
    except SmokeError as error:
        module.fail_json(msg=str(error))
    wrong = complaint(document.lines, params["fail_on"])
    if wrong:
        module.fail_json(msg=wrong, passed=False, document=document.as_dict())
    module.exit_json(changed=False, msg=outcome(document.lines), passed=True, document=document.as_dict())


if __name__ == "__main__":
    main()
