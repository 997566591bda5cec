"""What is installed, and what an extra lacks; read from the package's own metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*([^;\[]*?)\s*(?:;\s*extra\s*==\s*[\"'](\w+)[\"'])?$")
_DEVELOPERS = {"test", "dev"}


@dataclass(frozen=True)
class Package:
    """One dependency: ``extra`` None for the base install, ``version`` None where it is not installed."""

    name: str
    wanted: str
    extra: str | None
    version: str | None


def packages() -> list[Package]:
    """Dependencies of the base install and of the extras users choose, in the order setup.cfg has them."""
    found = []
    for requirement in metadata.requires("icl-local") or []:
        match = _REQUIREMENT.match(requirement)
        if match and match[3] not in _DEVELOPERS:
            found.append(Package(match[1], match[2], match[3], _version(match[1])))
    return found


def missing_extras() -> dict[str, str]:
    """Extras with a package missing -> the command that installs them."""
    lacking = dict.fromkeys(p.extra for p in packages() if p.extra is not None and p.version is None)
    return {extra: f"pip install 'icl-local[{extra}]'" for extra in lacking if extra is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
