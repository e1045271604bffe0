"""Datasets of Hugging Face on this machine: where one lies, and which files a saved one is made of.

    state.json, data-00000-of-00002.arrow ...       a Dataset, as its save_to_disk writes it
    dataset_dict.json, train/state.json ...         a DatasetDict, a directory a split

The package `datasets` is not needed. A dataset is named by its path, or by its name below CODEX_OFFLINE_DATASETS_DIR.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from codex_jax.data import opening
from codex_jax.errors import AssetError


ROOT = "CODEX_OFFLINE_DATASETS_DIR"
_STATE, _DICT = "state.json", "dataset_dict.json"


class Wanted(NamedTuple):
    """Which split of a directory that has several."""

    name: str
    """empty: the only one, or the usual one"""
    usual: str
    change: str
    """what a user can do when it is another"""


def place(path: str, key: str) -> str:
    """Return where a dataset lies: the path itself if it is there, else the same name below the directory of all.

    Raises AssetError, naming what was looked at, when it is in neither place.
    """
    path = os.path.expanduser(path)
    if opening.is_remote(path) or os.path.exists(path) or any(mark in path for mark in "*?["):
        return path
    root = os.environ.get(ROOT)
    if not root:
        raise AssetError(f"{path} does not exist; correct {key}, or name the directory that holds it in {ROOT}")
    if not os.path.isdir(os.path.expanduser(root)):
        raise AssetError(f"{ROOT}={root} is not a directory; correct the variable or unset it")
    below = os.path.join(os.path.expanduser(root), path)
    if not os.path.exists(below):
        raise AssetError(f"neither {path} nor {below} exists ({ROOT}); correct {key}")
    return below


def is_saved(directory: str) -> bool:
    """Whether a directory was written by save_to_disk."""
    return any(os.path.isfile(os.path.join(directory, name)) for name in (_STATE, _DICT))


def saved(directory: str, wanted: Wanted) -> list[str]:
    """Return the files of a saved dataset in their order; AssetError for one that is not whole."""
    if os.path.isfile(path := os.path.join(directory, _DICT)):
        splits = _names(_read(path).get("splits"), path)
        directory = os.path.join(directory, choose(splits, wanted, directory))
    state = _read(path := os.path.join(directory, _STATE))
    if state.get("_indices_data_files"):
        raise AssetError(
            f"{directory} is a selection of its rows, or another order (indices); call flatten_indices() and save again"
        )
    listed = state.get("_data_files")
    names = [file.get("filename") if isinstance(file, dict) else file for file in listed or []]
    files = [os.path.join(directory, name) for name in _names(names, path)]
    if missing := [file for file in files if not os.path.isfile(file)]:
        raise AssetError(f"{missing[0]} is missing, and {path} names it; copy or save the dataset again")
    return files


def choose(splits: Sequence[str], wanted: Wanted, directory: str) -> str:
    """Return which of the splits is wanted; AssetError, naming all, when it is not there or cannot be told."""
    if wanted.name in splits:
        return wanted.name
    if not wanted.name and (len(splits) == 1 or wanted.usual in splits):
        return splits[0] if len(splits) == 1 else wanted.usual
    there = ", ".join(splits)
    if wanted.name:
        raise AssetError(f"{directory} has no split {wanted.name}, it has {there}; {wanted.change}")
    raise AssetError(f"{directory} has the splits {there}, and none is called {wanted.usual}; {wanted.change}")


def _names(names: Any, path: str) -> list[str]:
    """Return names that a file lists, if there is one at least and none leads out of its directory."""
    if not isinstance(names, list) or not names:
        raise AssetError(f"{path} names no files or splits; copy or save the dataset again")
    outside = [name for name in names if not isinstance(name, str) or name in ("", "..") or os.sep in name]
    if outside:
        raise AssetError(f"{path} names {outside[0]!r}, nothing in its directory; copy or save the dataset again")
    return names


def _read(path: str) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            content = json.load(file)
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror}; copy or save the dataset again") from error
    except (ValueError, RecursionError) as error:
        raise AssetError(f"{path} is damaged ({error}); copy or save the dataset again") from error
    if not isinstance(content, dict):
        raise AssetError(f"{path} is damaged (no object); copy or save the dataset again")
    return content
