"""Reader of the installed data files: prompts/, models/, db/ and scripts/contenders/, installed as packages.

A file in a user's folder replaces the built-in file of the same name.
"""

from importlib import resources
from pathlib import Path

from icl_local.exceptions import InputError


def read_text(folder: str, name: str, *, overlay: Path | None = None) -> str:
    """Return the text of the data file ``name`` (may hold ``/``) in ``folder`` (prompts, models or db), UTF-8.

    ``overlay`` is a user's folder that is searched first; its byte order marks are left out. Raises FileNotFoundError
    if neither has it, InputError for a user's file in another encoding.
    """
    if overlay is not None and (overlay / name).is_file():
        try:
            return (overlay / name).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{overlay / name}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    return resources.files(f"icl_local.{folder}").joinpath(name).read_text(encoding="utf-8")


def path(folder: str, name: str) -> Path:
    """Return the path of a data file that another process reads; the package is installed as plain files."""
    return Path(str(resources.files(f"icl_local.{folder}").joinpath(name)))


def names(folder: str, under: str = "", *, suffix: str = "", overlay: Path | None = None) -> list[str]:
    """Return the sorted names, without ``suffix``, of files in ``folder``/``under`` and the overlay that end in it."""
    folders = [path(folder, under)] if overlay is None else [path(folder, under), overlay / under]
    found = {file.name for one in folders if one.is_dir() for file in one.iterdir() if file.is_file()}
    return sorted(name.removesuffix(suffix) for name in found if name.endswith(suffix) and name != "__init__.py")
