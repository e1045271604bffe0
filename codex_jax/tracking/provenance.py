"""What a run was made with: versions, machine, code and command, as plain values without secrets."""

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codex_jax import digest
from codex_jax.tracking import repository


PACKAGES = (
    "codex-jax",
    "flax",
    "grain",
    "jax",
    "jaxlib",
    "ml-collections",
    "numpy",
    "optax",
    "orbax-checkpoint",
    "safetensors",
    "sentencepiece",
    "tokenizers",
    "transformers",
)
# A flag whose last word is one of these: --hub_token, --api-key, wandb.apikey; not --tokenizer or num_tokens.
_SECRET = re.compile(r"(?i)(token|keys?|secrets?|passwords?|passwd|passphrase|credentials?)$")
_ASSIGNMENT = re.compile(r"[\w.-]+(?==)")
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
MASK = "***"
# Variables that decide what the numbers are, or on which devices they come about; those of jax besides.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "PYTHONHASHSEED", "XLA_FLAGS")


def collect(*, argv: Sequence[str], digests: Mapping[str, str], code: Path) -> dict[str, Any]:
    """Return the provenance of this process; `digests` are fingerprints the caller knows (config, data, tokenizer).

    `code` is the package of the running program: its bytes have a digest, and its commit is noted where git tracks it.
    The values of flags that look like secrets are masked. Nothing is imported for its version.
    """
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "python": platform.python_implementation(),
            "cpus": os.cpu_count(),
        },
        "git": repository.state(code),
        "code": {"sha256": _code_digest(code), "installed": _installed(code)},
        "environment": {name: os.environ[name] for name in sorted(os.environ) if _matters(name)},
        "argv": mask(argv),
        "digests": dict(digests),
    }


def mask(argv: Sequence[str]) -> list[str]:
    """Return the command line with the values of flags named like secrets, and logins in URLs, replaced by ***."""
    masked: list[str] = []
    hide_next = False
    for argument in argv:
        if hide_next and not argument.startswith("--"):
            masked.append(MASK)
            hide_next = False
            continue
        masked.append(_URL_LOGIN.sub(MASK, _mask_assignment(argument)))
        hide_next = argument.startswith("-") and "=" not in argument and bool(_SECRET.search(argument))
    return masked


def _mask_assignment(argument: str) -> str:
    """Cut everything after the first NAME= that looks like a secret: its value may hold commas and equal signs."""
    for name in _ASSIGNMENT.finditer(argument):
        if _SECRET.search(name.group()):
            return f"{argument[: name.end()]}={MASK}"
    return argument


def packages() -> list[str]:
    """Return every installed package as `name==version`, as `pip freeze` would, without a process of its own."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name = one.name or ""
        # Where two directories of sys.path have a package, the first is the one that is imported.
        found.setdefault(name.lower(), f"{name}=={one.version}")
    return [found[name] for name in sorted(found) if name]


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _code_digest(code: Path) -> str:
    """Return the SHA-256 of the names and bytes of all files of a package: the same for a checkout and its wheel."""
    files = sorted(path for path in code.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest.of_json([[path.relative_to(code).as_posix(), digest.of_file(path)] for path in files])


def _installed(code: Path) -> dict[str, Any] | None:
    """Return which installation the code is of: a wheel or an editable one; None when it runs from a bare checkout."""
    for one in importlib.metadata.distributions(name="codex-jax"):
        origin = _direct_url(one)
        editable = bool(origin.get("dir_info", {}).get("editable"))
        place = Path(origin.get("url", "").removeprefix("file://")) if editable else Path(str(one.locate_file("")))
        if (place / code.name).resolve() == code.resolve():
            record = one.read_text("RECORD")
            return {
                "kind": "editable" if editable else "wheel",
                "version": one.version,
                "record_sha256": digest.of_bytes(record.encode()) if record else None,
                "direct_url": {**origin, "url": _URL_LOGIN.sub(MASK, origin["url"])} if "url" in origin else None,
            }
    return None


def _direct_url(one: importlib.metadata.Distribution) -> dict[str, Any]:
    try:
        found = json.loads(one.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _matters(name: str) -> bool:
    return name in VARIABLES or name.startswith("JAX_")
