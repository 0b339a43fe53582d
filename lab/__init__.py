"""The lab: throw-away Debian 13 hosts and the artifacts they need, for `make lab`, Molecule and the tests.

Nothing in the collection knows of it: hosts are reached by ssh through the inventory that the lab writes.
"""
