"""Read the files of a data set; an error says what is wrong and where to get them."""

import gzip
import zlib
from pathlib import Path

from fadiag.errors import InputError

__all__ = ["need_folder", "read_bytes"]


def need_folder(folder: Path | None, what: str, source: str) -> Path:
    """Return the folder, or raise an InputError that says where the files come from."""
    if folder is None:
        raise InputError(
            f"{what} needs the folder of its files (data.folder, or --data-dir); get them from {source}"
        )
    if not folder.is_dir():
        raise InputError(f"no folder {folder} with {what}; get its files from {source}")
    return folder


def read_bytes(folder: Path, name: str, what: str) -> bytes:
    """Return the contents of a file, or of its gzipped form with .gz added to the name."""
    plain, packed = folder / name, folder / f"{name}.gz"
    try:
        if plain.is_file():
            return plain.read_bytes()
        if packed.is_file():
            with gzip.open(packed) as file:
                return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{packed if packed.is_file() else plain} cannot be read: {error}") from error
    raise InputError(f"{what}: {folder} holds neither {name} nor {name}.gz")
