"""The one kind of error that is shown without a traceback."""

from __future__ import annotations


class GenerateError(Exception):
    """Names the file that is wrong, and the way out."""
