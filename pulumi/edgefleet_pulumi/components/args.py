"""What the arguments of all components have in common."""

from __future__ import annotations

from typing import Annotated

import pulumi
from pydantic import StringConstraints, ValidationError

from edgefleet_pulumi.model.errors import ModelError
from edgefleet_pulumi.model.industry import Strict

# An image as pods name it: with a tag, or resolved to a digest.
ImageReference = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$"),
]


class ArgsError(ModelError, pulumi.RunError):
    """Arguments that a component refuses; Pulumi shows it without a traceback."""


class Args(Strict):
    """Arguments of a component: plain values, checked before anything is declared."""

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as invalid:
            lines = (
                f"{type(self).__name__}: {'.'.join(map(str, error['loc'])) or 'arguments'}: "
                f"{error['msg'].removeprefix('Value error, ')}, given {error['input']!r}"
                for error in invalid.errors(include_url=False)
            )
            raise ArgsError("\n".join(lines)) from invalid
