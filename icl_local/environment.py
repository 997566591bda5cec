"""Installed dependencies and incomplete extras, read from the package's own metadata."""

import re
from dataclasses import dataclass
from importlib import metadata

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*([^;\[]*?)\s*(?:;\s*extra\s*==\s*[\"'](\w+)[\"'])?$")
_INCLUDED = re.compile(r"^icl-local\[([\w,]+)\]\s*;\s*extra\s*==\s*[\"'](\w+)[\"']$")  # an extra within another
_DEVELOPERS = {"test", "dev"}


@dataclass(frozen=True)
class Package:
    """One dependency: ``extra`` None for the base install, ``version`` None if it is not installed."""

    name: str
    required: str
    extra: str | None
    version: str | None


def packages() -> list[Package]:
    """Return the dependencies of the base install and of the extras for users, in setup.cfg's order."""
    found = []
    for requirement in metadata.requires("icl-local") or []:
        match = _REQUIREMENT.match(requirement)
        if match and match[3] not in _DEVELOPERS:
            found.append(Package(match[1], match[2], match[3], _version(match[1])))
    return found


def missing() -> dict[str, str]:
    """Return what is missing, packages of the base install and extras -> the command that installs it."""
    lacking = dict.fromkeys(p.extra for p in packages() if p.extra is not None and p.version is None)
    for match in filter(None, map(_INCLUDED.match, metadata.requires("icl-local") or [])):
        if match[2] not in _DEVELOPERS and lacking.keys() & set(match[1].split(",")):
            lacking[match[2]] = None
    needed = {
        p.name: f"pip install '{p.name}{p.required}'" for p in packages() if p.extra is None and p.version is None
    }
    return needed | {f"the extra {extra}": f"pip install 'icl-local[{extra}]'" for extra in lacking}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
