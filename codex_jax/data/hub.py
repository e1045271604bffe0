"""Copies of dataset repositories of the Hugging Face hub: which of their files make up a split.

    README.md, data/train-00000-of-00001.parquet, data/test-00000-of-00001.parquet

The head of README.md lists them, or else the names of the files say it, by the rules that the hub has for names.
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from codex_jax.data import hf
from codex_jax.errors import AssetError, ConfigError


# A split of any name, and the number of a part: train_sft-00000-of-00003-6f9a2c.parquet.
_NUMBERED = re.compile(r"(\w[\w.]*)-\d{5}-of-\d{5}(-\w+)?(\.\w+)+")
_MEANINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLITS = {word: split for split, words in _MEANINGS.items() for word in words}
_ADVICE = "name the directory of one, or files by a glob with their kind in data.source"


def files_of(directory: str, files: Sequence[str], wanted: hf.Wanted) -> list[str]:
    """Return which of the data files below a directory are those of the split, in sorted order.

    Raises ConfigError where more than one dataset may be meant, AssetError where the split is not there.
    """
    by_split = _listed(directory, files)
    if by_split:
        return by_split[hf.choose(list(by_split), wanted, directory)]
    by_split = _named(directory, files)
    chosen = by_split[hf.choose(list(by_split), wanted, directory)]
    parents = sorted({os.path.dirname(os.path.relpath(file, directory)) or "." for file in chosen})
    if len(parents) > 1:
        raise ConfigError(f"the files of {directory} lie in {', '.join(parents)}, perhaps several datasets; {_ADVICE}")
    return chosen


def _listed(directory: str, files: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the files of each split as the head of README.md has them; nothing where it says nothing."""
    path = os.path.join(directory, "README.md")
    try:
        with open(path, encoding="utf-8") as file:
            head = re.match(r"---\n(.*?\n)---\s*$", file.read(1 << 20), re.DOTALL | re.MULTILINE)
        configs = [one for one in _yaml(head[1]).get("configs") or [] if one.get("data_files")] if head else []
        usual = [one for one in configs if one.get("default") or one["config_name"] == "default"]
        if len(configs) > 1 and len(usual) != 1:
            names = ", ".join(str(one["config_name"]) for one in configs)
            raise ConfigError(f"{path} lists several datasets: {names}; {_ADVICE}")
        return _matching((usual or configs)[0]["data_files"], directory, files) if configs else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} does not list its files as the hub's pages do ({error!r}); {_ADVICE}") from error


def _matching(data_files: Any, directory: str, files: Sequence[str]) -> Mapping[str, list[str]]:
    """Return the files of each split, from patterns for train alone, or from a list of splits with their patterns."""
    by_split = isinstance(data_files, list) and isinstance(data_files[0], dict)
    found = {}
    for one in data_files if by_split else [{"split": "train", "path": data_files}]:
        patterns = [one["path"]] if isinstance(one["path"], str) else one["path"]
        matches = {name for pattern in patterns for name in glob.glob(pattern, root_dir=directory, recursive=True)}
        found[one["split"]] = [file for file in files if os.path.relpath(file, directory) in matches]
        if not found[one["split"]]:
            raise AssetError(
                f"no file of {directory} matches {', '.join(patterns)}, which README.md lists for {one['split']}; copy "
                "the dataset again"
            )
    return found


def _named(directory: str, files: Sequence[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(_split_of(os.path.relpath(file, directory)), []).append(file)
    if list(found) != [""]:
        found.pop("", None)  # files that name no split, beside others that do, are in none
    return {split or "train": named for split, named in found.items()}


def _split_of(name: str) -> str:
    """Return the split that the path of a file names; empty where it names none."""
    *parents, last = name.split(os.sep)
    if numbered := _NUMBERED.fullmatch(last):
        return _SPLITS.get(numbered[1].lower(), numbered[1])
    for part in (last, *reversed(parents)):
        words = [word for word in re.split(r"[^a-z]+", part.lower()) if word in _SPLITS]
        if words:
            return _SPLITS[words[-1]]
    return ""


def _yaml(content: str) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"the head of README.md needs PyYAML: pip install 'codex-jax[hf]' ({error})") from error
    try:
        return yaml.safe_load(content) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
