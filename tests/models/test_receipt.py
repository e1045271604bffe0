"""What a directory says of where it was downloaded from counts only while its files are those."""

import json
from pathlib import Path
from typing import Any

import pytest

from codex_jax.errors import AssetError
from codex_jax.models import receipt


pytestmark = pytest.mark.model

CAME = {"repository": "some-one/tiny", "commit": 40 * "a"}


def test_commit_is_told_of_the_weights_that_came_and_of_no_others(tmp_path: Path) -> None:
    assert receipt.published(tmp_path, "b") == {} == receipt.published(tmp_path / "gone", "b")
    receipt.write(tmp_path, {**CAME, "digest": "b", "files": {}, "time": "now"})
    assert receipt.published(tmp_path, "b") == CAME
    assert receipt.published(tmp_path, "c") == {}


@pytest.mark.parametrize(
    "damage", ["{", "[]", "{}", {"commit": "main"}, {"files": {"a": 3}}, {"files": ["a"]}, {"digest": None}]
)
def test_damaged_one_is_named(tmp_path: Path, damage: str | dict[str, Any]) -> None:
    whole = {**CAME, "digest": "b", "files": {}}
    text = damage if isinstance(damage, str) else json.dumps(whole | damage)
    (tmp_path / receipt.FILE).write_text(text)
    with pytest.raises(AssetError, match=r"downloaded\.json is damaged"):
        receipt.published(tmp_path, "b")


def test_file_that_changed_or_is_gone_is_named_and_none_elsewhere_is_read(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "config.json").write_text("{}")
    receipt.write(here, {**CAME, "digest": "b", "files": {"../config.json": 64 * "a"}})
    with pytest.raises(
        AssetError, match=r"here/config\.json is not the file that was downloaded, whose SHA-256 is aaaa"
    ):
        receipt.check(here)
