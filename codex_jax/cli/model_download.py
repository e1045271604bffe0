"""What `model download` does: a model from the hub, checked as `model import` checks one. Nothing else imports this."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from codex_jax.cli import model_files
from codex_jax.models import download, hub


def downloaded(
    name: str, revision: str, destination: Path | None, expected: str, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Fetch a model and return what is to be said of it; `tell` is given a line for each file.

    Raises what `download.source` and `download.bring` do, and AssetError when it has not the `expected` digest.
    """
    facts: dict[str, Any] = {}

    def check(draft: Path) -> str:
        facts.update(model_files.contents(draft, expected, asked.alias))
        return str(facts["digest"])

    try:
        asked = download.source(name, revision)
        place = (destination or asked.place).expanduser().absolute()
        download.bring(asked, place, check, tell)
    finally:
        hub.close()
    came = {"directory": str(place), "from": f"{asked.repository} at {asked.commit}"}
    return {**came, **facts, "next": f"--config.model.weights={place}"}
