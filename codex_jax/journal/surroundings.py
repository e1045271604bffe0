"""With what a run is made, written down: provenance.json, the packages there are, and what differs from the commit."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import codex_jax
from codex_jax import amounts, atomic, config, digest, rundir
from codex_jax.data import pipeline
from codex_jax.errors import CodexError
from codex_jax.safety.gate import Gate
from codex_jax.tracking import hardware, provenance, repository


DIFF = "dirty.diff"
PACKAGES = "packages.txt"
DIFF_BYTES = 1_000_000
# Read beyond that: a secret that is cut in two would not be recognised.
_MARGIN_BYTES = 65_536
_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_threefry_partitionable",
)


def write(workdir: Path, settings: config.Config, guard: Gate, digests: Mapping[str, str]) -> dict[str, Any]:
    """Write what this process is made with to the run directory, and return provenance.json; secrets are left out.

    `digests` are those of settings, data, tokenizer, policy and weights. Raises TrainingStopped when provenance.json
    cannot be written; what cannot be found out is null, and no reason to end a run.
    """
    code = Path(codex_jax.__file__).parent
    found = hardware.facts([device.device_kind for device in jax.devices()])
    record = {
        **provenance.collect(argv=sys.argv, digests=digests, code=code),
        "hardware": {**found, "fingerprint": hardware.fingerprint(found)},
        "jax": _jax(),
        "seeds": {"run": settings.run.seed, "data": pipeline.data_seed(settings)},
    }
    if record["git"]:
        record["git"]["diff"] = _write_diff(workdir / DIFF, code, guard)
    listed = "".join(f"{line}\n" for line in provenance.packages())
    record["packages"] = {"file": PACKAGES, "sha256": _write(workdir / PACKAGES, listed)}
    record = guard.outward(record)
    rundir.write_json(workdir / "provenance.json", record)
    return record


def _jax() -> dict[str, Any]:
    """Return how jax computes here; a variable or a flag may have set any of it."""
    backend = jax.devices()[0].client
    return {
        "backend": jax.default_backend(),
        "platform_version": backend.platform_version,
        "devices": [f"{device.id}: {device.device_kind}" for device in jax.devices()],
        "processes": jax.process_count(),
        **{name.removeprefix("jax_"): getattr(jax.config, name, None) for name in _SETTINGS},
    }


def _write_diff(path: Path, code: Path, guard: Gate) -> dict[str, Any] | None:
    """Write in what the tracked files differ from the commit, without secrets; remove what an earlier start left."""
    found = repository.diff(code, DIFF_BYTES + _MARGIN_BYTES)
    if found is None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    shown = guard.outward(found.text)
    cut = len(shown) > DIFF_BYTES or found.num_bytes > DIFF_BYTES + _MARGIN_BYTES
    if cut:
        shown = shown[: shown.rfind("\n", 0, DIFF_BYTES) + 1] or shown[:DIFF_BYTES]
        shown += f"# cut here: git diff HEAD has {amounts.size(found.num_bytes)}, of which this is the beginning\n"
    redacted = found.text != shown and not cut
    return {"file": DIFF, "sha256": _write(path, shown), "bytes": found.num_bytes, "cut": cut, "redacted": redacted}


def _write(path: Path, text: str) -> str | None:
    """Write a file that a run can do without, and return its SHA-256; None when the disk refuses."""
    content = text.encode("utf-8", "replace")
    with contextlib.suppress(CodexError), atomic.replacing(path) as file:
        file.write(content)
        return digest.of_bytes(content)
    return None
