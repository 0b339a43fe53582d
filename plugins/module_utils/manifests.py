# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects on their way from files on the controller to kubectl on a host."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Parser = Callable[[str], Iterable[Any]]
"""All documents of a YAML text. Handed in: only the controller is sure to have a parser."""

ENDINGS = (".yaml", ".yml", ".json")
Object = dict[str, Any]


class ManifestError(Exception):
    """What is wrong with a manifest: the file, the document, the way out."""


def load(sources: Iterable[Path], parse: Parser) -> list[Object]:
    """All objects of files and folders, in the order of their names. Each may stand in one place only."""
    objects: list[Object] = []
    places: dict[str, str] = {}
    for file in _files(sources):
        for place, one in _objects(file, parse):
            name = identity(one)
            if name in places:
                raise ManifestError(f"{place} declares {name}, which {places[name]} declares too; remove one of them")
            places[name] = place
            objects.append(one)
    return objects


def identity(one: Object) -> str:
    """As people write it: Deployment shop/till, Namespace shop."""
    metadata = one["metadata"]
    namespace = metadata.get("namespace")
    return f"{one['kind']} {namespace + '/' if namespace else ''}{metadata['name']}"


def pack(objects: list[Object]) -> str:
    """One opaque text, so that a module can keep it out of logs without blanking every word in it."""
    return base64.b64encode(zlib.compress(json.dumps(objects).encode())).decode()


def unpack(packed: str) -> list[Object]:
    objects: list[Object] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return objects


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            inside = sorted(path for path in source.iterdir() if path.suffix in ENDINGS and path.is_file())
            if not inside:
                raise ManifestError(f"the folder {source} has no manifest ({', '.join(ENDINGS)})")
            yield from inside
        elif source.is_file():
            yield source
        else:
            raise ManifestError(f"{source} does not exist on the controller")


def _objects(file: Path, parse: Parser) -> Iterator[tuple[str, Object]]:
    try:
        documents = list(parse(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file} can't be read: {error}") from error
    except Exception as error:  # the parser is the caller's, and so are its exceptions
        raise ManifestError(f"{file} is no valid YAML: {' '.join(str(error).split())}") from error
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        place = f"{file} (document {number})" if len(documents) > 1 else str(file)
        for one in _expanded(place, document):
            _check(place, one)
            yield place, one


def _expanded(place: str, document: Any) -> list[Any]:
    if not isinstance(document, dict):
        raise ManifestError(f"{place} is no Kubernetes object: a map with apiVersion, kind and metadata is wanted")
    return list(document.get("items") or []) if document.get("kind") == "List" else [document]


def _check(place: str, one: Any) -> None:
    if not isinstance(one, dict):
        raise ManifestError(f"{place} is no Kubernetes object: a map with apiVersion, kind and metadata is wanted")
    for key in ("apiVersion", "kind"):
        if not isinstance(one.get(key), str):
            raise ManifestError(f"{place} has no {key}")
    metadata = one.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ManifestError(f"{place} ({one['kind']}) has no metadata.name")
