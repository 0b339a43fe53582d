"""What a person reads when a declaration is wrong: file, key, and the way out. One line a mistake."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class ModelError(ValueError):
    """A declaration that can't be used. The text names file, key and fix."""


# What to do about an error that pydantic finds by type; everything else carries its own fix.
_FIXES = {
    "missing": "is missing: add it{what}",
    "string_type": "must be text: put {value} in quotes",
    "int_type": "must be a whole number, not {value}",
    "bool_type": "must be true or false, not {value}",
    "list_type": "must be a list, not {value}",
    "tuple_type": "must be a list, not {value}",
    "dict_type": "must be a mapping, not {value}",
    "model_type": "must be a mapping, not {value}",
    "model_attributes_type": "must be a mapping, not {value}",
    "literal_error": "must be {expected}, not {value}",
    "greater_than": "must be more than {gt}, not {value}",
    "greater_than_equal": "must be at least {ge}, not {value}",
    "less_than_equal": "must be at most {le}, not {value}",
    "too_short": "needs at least {min_length} entries: add one",
    "string_pattern_mismatch": "must match {pattern}, which {value} does not",
}


def _short(value: object) -> str:
    """As YAML has it, and no longer than a line."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a type: of `list[Port] | None` it is Port."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models(part)


def _holder(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that the last key of a place belongs to."""
    holder: type[BaseModel] | None = model
    for key in place[:-1]:
        if holder is None or isinstance(key, int):
            continue
        field = holder.model_fields.get(key)
        holder = next(_models(field.annotation), None) if field else None
    return holder


def _unknown(holder: type[BaseModel] | None, key: str) -> str:
    known = sorted(holder.model_fields) if holder else []
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"no such key: did you mean {near[0]}?"
    return f"no such key: remove it; known here: {', '.join(known)}"


def _sentence(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    place: tuple[str | int, ...] = error["loc"]
    kind, value = error["type"], error["input"]
    holder = _holder(model, place) if place else None
    if kind == "extra_forbidden":
        return _unknown(holder, str(place[-1]))
    if kind == "missing":
        field = holder.model_fields.get(str(place[-1])) if holder else None
        return _FIXES[kind].format(what=f" ({field.description})" if field and field.description else "")
    if kind in _FIXES:
        context = dict(error.get("ctx", {}))
        if context.get("expected") == "True":
            context["expected"] = "true"
        return _FIXES[kind].format(value=_short(value), **context)
    return str(error["msg"]).removeprefix("Value error, ")


def _key(place: Sequence[str | int]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def checked(model: type[Model], content: object, where: str) -> Model:
    """The content as the model; a ModelError with a line for each mistake names `where`, the key and the fix."""
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        lines = []
        for error in invalid.errors(include_url=False):
            key = _key(error["loc"])
            lines.append(f"{where}: {f'{key}: ' if key else ''}{_sentence(model, error)}")
        raise ModelError("\n".join(lines)) from invalid
