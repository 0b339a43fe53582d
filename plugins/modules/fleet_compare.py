#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_compare
short_description: Say whether one smoke test of a fleet is slower than another, beyond noise
description:
  - Compares the samples of two runs that the callback C(edgefleet.wasm.fleet_report) has written, by layer and host and
    by layer over all hosts.
  - On a host by the test of Mann and Whitney, adjusted over all hosts and checks (Benjamini and Hochberg, 5 %); over
    the fleet by Wilcoxon's signed-rank test of the hosts' ratios, from 10 hosts on. The 95 % interval of a ratio of
    medians is that of Price and Bonett.
  - A change counts from O(threshold) on, and only where the native control, measured in between in both runs, did not
    change with it.
  - V(invalid) is what can't be told, with the reason. A run too noisy to show a change of twice the threshold is so,
    and a host that was tested in the earlier run and not in the later.
  - It runs on the controller, whatever host the task is for, and connects to no host.
options:
  report_dir:
    description: The report folder of the smoke test; its runs are C(fleet/<run>.json).
    type: path
    required: true
  after:
    description: The later run, by its name or as a path with a slash. The newest one if not given.
    type: str
  before:
    description: The run to compare with. The newest one before O(after) if not given.
    type: str
  threshold:
    description: The least change of a median that counts, in percent (1 to 100).
    type: float
    default: 10.0
  fail_on:
    description:
      - V(none) never fails the task, V(slower) does when anything is slower.
      - V(unproven) also when it can't be told that nothing is.
    type: str
    choices: [none, slower, unproven]
    default: none
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
- name: Compare the two newest runs
  edgefleet.wasm.fleet_compare:
    report_dir: ./reports
  register: compared

- name: Stop unless this upgrade is proven not to be slower
  edgefleet.wasm.fleet_compare:
    report_dir: ./reports
    before: 20260302T043000Z
    threshold: 15
    fail_on: unproven
"""

RETURN = r"""
msg:
  description: The outcome in one line.
  returned: always
  type: str
  sample: "20260309T043000Z against 20260302T043000Z: slower"
passed:
  description: Whether the verdict is none that O(fail_on) names.
  returned: when both runs could be read
  type: bool
told:
  description: The outcome in lines for a terminal.
  returned: when both runs could be read
  type: list
  elements: str
verdict:
  description:
    - C(slower) if anything is, on a host or over the fleet.
    - Else C(invalid), C(faster) or C(no_difference), by the fleet's lines; by the hosts' where there are too few hosts.
  returned: when both runs could be read
  type: str
before:
  description: Name of the earlier run.
  returned: when both runs could be read
  type: str
after:
  description: Name of the later run.
  returned: when both runs could be read
  type: str
threshold:
  description: The threshold as a share.
  returned: when both runs could be read
  type: float
counts:
  description: Number of lines of the hosts by verdict.
  returned: when both runs could be read
  type: dict
fleet:
  description: One line a check over all hosts, as RV(hosts); its C(host) is empty and its n counts hosts.
  returned: when both runs could be read
  type: list
  elements: dict
hosts:
  description: One line a check and host, the slower ones first.
  returned: when both runs could be read
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check.
      type: str
      returned: always
    side:
      description: Which of its sides, as C(wasm).
      type: str
      returned: always
    unit:
      description: Unit of the medians.
      type: str
      returned: always
    host:
      description: Name of the host.
      type: str
      returned: always
    verdict:
      description: C(slower), C(faster), C(no_difference) or C(invalid).
      type: str
      returned: always
    reason:
      description: Why it is C(invalid), else empty.
      type: str
      returned: always
    n_before:
      description: Number of samples of the earlier run.
      type: int
      returned: always
    n_after:
      description: Number of samples of the later run.
      type: int
      returned: always
    median_before:
      description: Median of the earlier run.
      type: float
      returned: always
    median_after:
      description: Median of the later run.
      type: float
      returned: always
    ratio:
      description: Median after to median before. More than 1 is slower.
      type: float
      returned: always
    low:
      description: Lower end of its 95 % interval.
      type: float
      returned: always
    high:
      description: Upper end of its 95 % interval.
      type: float
      returned: always
    p:
      description: The p value, adjusted.
      type: float
      returned: always
    control:
      description: The ratio of the native control, or null where there is none.
      type: float
      returned: always
lost:
  description: Hosts that were tested in the earlier run and not in the later, each with C(host) and C(reason).
  returned: when both runs could be read
  type: list
  elements: dict
too_few:
  description: Checks that have too few samples for a test on every host.
  returned: when both runs could be read
  type: list
  elements: str
"""

# The action plugin of the same name does all of it, on the controller.
