"""Where something lies on a machine without network, by which rule it was found, and where else was looked."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codex_jax.errors import AssetError


# Below the working directory, where assets lie that nothing else names.
HERE = Path("artifacts/models")


class Checked(NamedTuple):
    """A place that was looked at."""

    path: Path
    rule: str
    found: bool

    def listed(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**self._asdict(), "path": str(self.path)}


class Resolved(NamedTuple):
    """Where it is."""

    path: Path
    rule: str
    """what named the path: the config key, an environment variable, or artifacts/models"""
    checked: tuple[Checked, ...]


class NotFound(AssetError):
    """It is in none of the places that were looked at."""

    def __init__(self, message: str, checked: list[Checked], *, promised: bool) -> None:
        super().__init__(message)
        self.checked = tuple(checked)
        self.promised = promised
        """whether a setting or a variable says that it is there"""


def search(what: str, places: Iterable[tuple[Path, str, bool]], *, wanted: str, advice: str) -> Resolved:
    """Return the first of `places`, each (path, rule, whether it must exist), that exists.

    NotFound when one that must exist does not, saying what is `wanted` there; when nothing is anywhere, it lists every
    place and gives the `advice`.
    """
    checked: list[Checked] = []
    for place, rule, promised in places:
        checked.append(Checked(place, rule, place.exists()))
        if checked[-1].found:
            return Resolved(place, rule, tuple(checked))
        if promised:
            raise NotFound(f"{rule}={place} does not exist; {wanted}", checked, promised=True)
    raise NotFound(
        f"{what} is nowhere on this machine; looked at:\n"
        + "\n".join(f"  {one.path} ({one.rule})" for one in checked)
        + f"\n{advice}",
        checked,
        promised=False,
    )


def usual(variable: str, roots: Iterable[str], subdirectory: str) -> Iterator[tuple[Path, str, bool]]:
    """Yield the places of an asset: what its own variable names, its directory in each root, and that below HERE.

    AssetError when a root is set but is no directory. An empty `variable` stands for none.
    """
    if variable and (value := os.environ.get(variable)):
        yield Path(value).expanduser(), variable, True
    for root in roots:
        if value := os.environ.get(root):
            directory = Path(value).expanduser()
            if not directory.is_dir():
                raise AssetError(f"{root}={directory} is not a directory; correct the variable or unset it")
            yield directory / subdirectory, root, False
    yield HERE.absolute() / subdirectory, str(HERE), False
