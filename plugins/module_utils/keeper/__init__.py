# SPDX-License-Identifier: Apache-2.0
"""What keeps a site for years: backups, their restore, and the way back from a change that does no good.

Python's own library and the modules beside this folder, nothing else: the role ``keeper`` puts the same files on the
host, where they work without Ansible.
"""
