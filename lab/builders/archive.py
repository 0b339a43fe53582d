"""Archives whose bytes depend on their content alone."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO


def write_tar_gz(target: Path, files: Mapping[str, Path], mode: int = 0o755) -> None:
    """Write the files under their names in the archive, sorted, with the folders above them, without time and owner."""
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted({*files, *folders}):
            info = tarfile.TarInfo(name)
            info.mode = mode
            if name in folders:
                info.type = tarfile.DIRTYPE
                info.mode = 0o755
                tar.addfile(info)
            else:
                _add(tar, info, files[name])


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, file: Path) -> None:
    stream: IO[bytes]
    with file.open("rb") as stream:
        info.size = file.stat().st_size
        tar.addfile(info, stream)
