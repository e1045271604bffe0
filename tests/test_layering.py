"""Who may import whom: the floors of the house, read from the imports of every module."""

import ast
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "codex_jax"

# A module imports only from floors below its own and from its own room. The modules of the ground are one room.
FLOORS: Mapping[int, tuple[str, ...]] = {
    7: ("main", "notebook"),
    6: ("train", "cli"),
    5: ("run",),
    4: ("checkpoint", "evaluate", "journal"),
    3: ("training",),
    2: ("data", "tracking", "generation", "encoders"),
    1: ("tokenizers", "safety", "models", "metrics", "sharding", "hosts"),
    0: (
        "amounts",
        "atomic",
        "cache",
        "changes",
        "config",
        "console",
        "contradictions",
        "data_knobs",
        "digest",
        "dtypes",
        "errors",
        "exits",
        "inflate",
        "keys",
        "knobs",
        "overrides",
        "registry",
        "rundir",
        "schema",
        "signals",
        "trees",
        "untrusted",
        "watchdog",
        "whereabouts",
    ),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
GROUND = "ground"

# Data workers are processes, and the commands that look at data or runs start at once: no jax while these load.
LIGHT_ROOMS = ("data", "tokenizers", "safety", "tracking", GROUND)
HEAVY = ("jax", "flax", "optax", "orbax", "grain", "mlflow", "wandb", "torch", "transformers", "tensorflow")
# `trees` is about parameter trees: only modules that hold arrays import it.
MAY_BE_HEAVY = ("codex_jax.trees",)
HEAVY_ROOMS = ("models", "sharding", "hosts")
NOWHERE = ("torch", "tensorflow", "peft", "pickle", "cloudpickle")
# Asking the hub is one module's work, and no command imports that but the one that downloads.
HUB = ("huggingface_hub", "httpx2")
MAY_LOAD_THE_HUB = {
    "codex_jax.models.hub": ("codex_jax.models.download", "codex_jax.cli.model_download"),
    "codex_jax.models.download": ("codex_jax.cli.model_download",),
}
CONFIGS_MAY_IMPORT = ("codex_jax.config", "codex_jax.errors")


def imports(source: str, modules: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield (imported module, whether the importing module needs it to load) for every import in a source."""
    tree = ast.parse(source)
    later = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(scope)
    }
    later |= {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        at_load = id(node) not in later
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_load) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield (name if name in modules else base), at_load


def room(module: str) -> str:
    """Return the room of a module of the package."""
    name = module.split(".")[1]
    return GROUND if FLOOR_OF[name] == 0 else name


def floor(module: str) -> int:
    """Return the floor of a module of the package."""
    return FLOOR_OF[module.split(".")[1]]


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return what breaks the table, one line each, for modules given as {dotted name: source}."""
    modules = frozenset(sources)
    found = []
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        if module == PACKAGE:
            found += [f"{PACKAGE}/__init__.py imports {name}" for name, _ in imports(source, modules)]
            continue
        if module.split(".")[1] not in FLOOR_OF:
            found.append(f"{module} has no floor: add its room to FLOORS and to docs/architecture.md")
            continue
        graph[module] = set()
        for name, at_load in imports(source, modules):
            found += (
                list(_own(module, name, at_load))
                if name.split(".")[0] == PACKAGE
                else list(_foreign(module, name, at_load))
            )
            if name in modules and name != module and name != PACKAGE:
                graph[module].add(name)
    return found + _cycles(graph)


def _own(module: str, name: str, at_load: bool) -> Iterator[str]:
    if name == PACKAGE:
        return
    if name.split(".")[1] not in FLOOR_OF:
        yield f"{module} imports {name}, which is not there"
    elif room(name) != room(module) and floor(name) >= floor(module):
        yield f"{module} (floor {floor(module)}) imports {name} (floor {floor(name)})"
    elif name in MAY_LOAD_THE_HUB and module not in MAY_LOAD_THE_HUB[name]:
        yield f"{module} imports {name}, which asks the network"
    elif at_load and _is_light(module) and (room(name) in HEAVY_ROOMS or name in MAY_BE_HEAVY):
        yield f"{module} imports {name}, which needs jax, while it loads"


def _is_light(module: str) -> bool:
    return room(module) in LIGHT_ROOMS and module not in MAY_BE_HEAVY


def _foreign(module: str, name: str, at_load: bool) -> Iterator[str]:
    top = name.split(".")[0]
    if not top:
        yield f"{module} imports {name}: write the full name"
    if top in NOWHERE:
        yield f"{module} imports {name}, which is not for run time"
    elif top in HUB and (at_load or module != "codex_jax.models.hub"):
        yield f"{module} imports {name}: only models.hub may, in the function that needs it"
    elif top == "orbax" and room(module) != "checkpoint":
        yield f"{module} imports {name}: only checkpoint may"
    elif at_load and top in HEAVY and _is_light(module):
        yield f"{module} imports {name} while it loads: import it in the function that needs it"


def _cycles(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["cycle: " + " -> ".join(error.args[1])]
    return []


def read_package() -> dict[str, str]:
    """Return {dotted name: source} of every module of the package."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def test_layering_holds_in_the_package() -> None:
    sources = read_package()
    assert len(sources) > 5
    assert violations(sources) == []


def test_configs_import_only_the_schema_and_the_errors() -> None:
    modules = frozenset(read_package())
    files = sorted((ROOT / "configs").glob("*.py"))
    assert files
    for path in files:
        ours = {name for name, _ in imports(path.read_text(), modules) if name.split(".")[0] == PACKAGE}
        assert ours <= set(CONFIGS_MAY_IMPORT), path.name


def test_architecture_page_shows_every_room_and_no_other() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    picture = page.split("```")[1]
    there = {module.split(".")[1] for module in read_package() if module != PACKAGE}
    shown = {room for room in FLOOR_OF if re.search(rf"\b{room}\b", picture)}
    assert shown == there


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("codex_jax", "import os", "__init__.py imports os"),
        ("codex_jax.config", "from codex_jax.models import build", "floor 0"),
        ("codex_jax.data.pipeline", "from codex_jax.tracking import ledger", "floor 2"),
        ("codex_jax.data.pipeline", "from codex_jax import train", "floor 6"),
        ("codex_jax.models.build", "def f():\n    from codex_jax.training import step", "floor 3"),
        ("codex_jax.data.pipeline", "import jax.numpy as jnp", "while it loads"),
        ("codex_jax.data.pipeline", "from codex_jax.models import build", "needs jax"),
        ("codex_jax.safety.engine", "try:\n    import grain\nexcept ImportError:\n    pass", "while it loads"),
        ("codex_jax.evaluate", "import orbax.checkpoint", "only checkpoint may"),
        ("codex_jax.models.build", "def f():\n    import torch", "not for run time"),
        ("codex_jax.models.build", "from . import layers", "full name"),
        ("codex_jax.models.build", "def f():\n    import huggingface_hub", "only models.hub may"),
        ("codex_jax.models.hub", "import httpx2", "only models.hub may"),
        ("codex_jax.train", "def f():\n    from codex_jax.models import download", "asks the network"),
        ("codex_jax.brandnew", "", "has no floor"),
        ("codex_jax.data.pipeline", "from codex_jax.gone import x", "not there"),
    ],
)
def test_layering_catches_a_violation(module: str, source: str, complaint: str) -> None:
    sources = {"codex_jax": "", **dict.fromkeys(("codex_jax.train", "codex_jax.models.build"), ""), module: source}
    others = ("codex_jax.tracking.ledger", "codex_jax.training.step", "codex_jax.models.download")
    sources |= dict.fromkeys(others, "")
    found = violations(sources)
    assert len(found) == 1, found
    assert complaint in found[0]


def test_layering_catches_a_cycle_inside_a_room() -> None:
    sources = {"codex_jax.data.a": "from codex_jax.data import b", "codex_jax.data.b": "from codex_jax.data.a import x"}
    assert [line for line in violations(sources) if line.startswith("cycle: ")]


def test_layering_allows_a_heavy_import_where_it_is_used() -> None:
    sources = {"codex_jax.data.pipeline": "def f():\n    import grain", "codex_jax.errors": ""}
    sources["codex_jax.training.step"] = (
        "import jax\nfrom codex_jax.data import pipeline\nfrom codex_jax.errors import X"
    )
    assert violations(sources) == []
