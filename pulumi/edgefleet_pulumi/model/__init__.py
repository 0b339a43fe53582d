"""The declarations of systems and stacks as typed models, and what follows from them by arithmetic alone.

Nothing here knows of Pulumi: programs, generators and tests read the same figures.
"""

from __future__ import annotations

from edgefleet_pulumi.model.errors import ModelError, checked
from edgefleet_pulumi.model.industry import Industry
from edgefleet_pulumi.model.load import load_industries, load_industry, read_yaml
from edgefleet_pulumi.model.stack import PlatformConfig, StackConfig

__all__ = [
    "Industry",
    "ModelError",
    "PlatformConfig",
    "StackConfig",
    "checked",
    "load_industries",
    "load_industry",
    "read_yaml",
]
