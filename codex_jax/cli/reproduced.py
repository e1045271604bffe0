"""How a run and the one that was made once more from its record relate: assets, surroundings, ledger and state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_jax import amounts, changes, config, digest, rundir, schema
from codex_jax.checkpoint import comparison as checkpoints
from codex_jax.checkpoint import store
from codex_jax.checkpoint.store import Found
from codex_jax.errors import AssetError
from codex_jax.tracking import comparison, ledger


# Of provenance.json what must be found again; settings are compared one by one, for some decide no number.
ASSETS = {"data": "data.paths", "tokenizer": "tokenizer.path", "safety": "safety.policy", "weights": "model.weights"}
# Of provenance.json what may explain a difference, by the beginning of its name.
_MADE_WITH = ("code.sha256", "environment.", "git.", "hardware.", "jax.", "versions.")
_MAX_LEAVES = 5


def assets(run: Path, workdir: Path) -> list[dict[str, Any]]:
    """Return the digests of what both runs were made of; AssetError for the first start with other ones."""
    a, b = (rundir.read_record(path / "provenance.json").get("digests", {}) for path in (run, workdir))
    rows = [{"name": name, "a": a.get(name), "b": b.get(name)} for name in ASSETS if name in a or name in b]
    if unlike := [row for row in rows if row["a"] is not None and row["a"] != row["b"]]:
        told = "\n".join(f"  {row['name']}: {row['a']} then, {row['b'] or 'none'} now" for row in unlike)
        raise AssetError(
            f"what {run} was made of is not there any more (SHA-256):\n{told}\nput it back, or say where it is: "
            f"--config.{ASSETS[unlike[0]['name']]}=..."
        )
    return rows


def made_with(run: Path, workdir: Path) -> list[dict[str, Any]]:
    """Return in what code, versions, machine and jax are not as they were."""
    a, b = (dict(schema.flatten(rundir.read_record(path / "provenance.json"))) for path in (run, workdir))
    names = [name for name in dict.fromkeys([*a, *b]) if name.startswith(_MADE_WITH)]
    parts = {name.split(".")[0] for name in a}  # an older version did not note the others
    return [
        {"name": name, "a": a.get(name), "b": b.get(name)}
        for name in sorted(names)
        if a.get(name) != b.get(name) and name.split(".")[0] in parts
    ]


def settings(run: Path, workdir: Path) -> dict[str, Any]:
    """Return the digests of the settings that decide numbers, and which of them differ."""
    one, other = rundir.read_settings(run), rundir.read_settings(workdir)
    known = dict(schema.flatten(config.to_dict(config.Config())))
    flat = ({**known, **dict(schema.flatten(found))} for found in (one, other))
    a, b = ({name: value for name, value in found.items() if changes.decides(name)} for found in flat)
    unlike = changes.of_content(a, b)
    return {"a": digest.of_json(a), "b": digest.of_json(b), "differ": sorted(unlike)}


def ledgers(run: Path, workdir: Path, step: int, owes_evaluation: bool) -> dict[str, Any]:
    """Return how the ledgers of two runs relate up to a step; an evaluation that one run never made counts in none."""

    def counts(row: Mapping[str, Any]) -> bool:
        owed = owes_evaluation and row["step"] == step and ledger.is_of_evaluation(row)
        return bool(row["step"] <= step and not owed)

    found = comparison.compare(run, workdir, counts)
    number, happening = comparison.compare_events(run, workdir, counts)
    return {
        "rows": found.rows,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "events": number,
        "first": found.first._asdict() if found.first else None,
        "first_event": happening._asdict() if happening else None,
        "equal": found.is_equal and happening is None,
    }


def states(found: Found, workdir: Path) -> dict[str, Any]:
    """Return in what the checkpoint of one run and that of the other, of the same step, are not the same."""
    other = store.find(workdir / "checkpoints", found.step)
    result = checkpoints.compare(found, other)
    unlike = [value._asdict() for value in (*result.position, *result.settings, *result.noted)]
    return {
        "leaves": result.num_leaves,
        "differ": [leaf._asdict() for leaf in result.leaves[:_MAX_LEAVES]],
        "num_differ": len(result.leaves),
        "unlike": unlike,
        "equal": result.is_equal,
    }


def verdict(settings: Mapping[str, Any], ledgers: Mapping[str, Any], states: Mapping[str, Any]) -> str:
    """Return the first difference in words, '' where there is none."""
    firsts = [one for one in (ledgers["first"], ledgers["first_event"]) if one]
    if settings["differ"]:
        return f"settings differ that decide numbers: {', '.join(settings['differ'])}"
    if firsts:
        one = min(firsts, key=lambda found: found["step"])
        what = f"{one['split']}/{one['metric']}" if "split" in one else f"{one['field']} of the event {one['event']}"
        return f"they part at step {one['step']:,}: {what} is {_text(one['a'])} then, {_text(one['b'])} now"
    if ledgers["only_a"] or ledgers["only_b"]:
        return f"rows of the ledger are missing: {ledgers['only_a']} there were only then, {ledgers['only_b']} only now"
    if states["differ"]:
        leaf = states["differ"][0]
        by = leaf["reason"] or f"{leaf['differ']:,} of {leaf['elements']:,} elements, by up to {_text(leaf['largest'])}"
        counted = f"{states['num_differ']:,} of {states['leaves']:,} leaves"
        return f"the ledgers are equal, but {counted} are not, the first {leaf['name']}: {by}"
    if states["unlike"]:
        one = states["unlike"][0]
        return f"the leaves are equal, but {one['name']} is {_text(one['a'])} then, {_text(one['b'])} now"
    return ""


def of_devices(made_with: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return what other devices have to do with a difference, and what helps; '' where they are the same."""
    row = next((row for row in made_with if row["name"] == "hardware.devices"), None)
    if row is None or not row["a"] or settings.get("parallel", {}).get("deterministic_reduction"):
        return ""
    before, now = (amounts.counted(len(row[side] or ()), "device") for side in "ab")
    told = f". It was trained on {before}, now on {now}"
    if before == now:
        return f"{told} of another kind, which may round otherwise"
    told += ": without parallel.deterministic_reduction the last bits of sums are others then"
    if set(row["a"]) == {"cpu"}:
        told += f"; XLA_FLAGS=--xla_force_host_platform_device_count={len(row['a'])} makes as many of a CPU"
    return told


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else schema.shown(value)
