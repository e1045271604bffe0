"""Pages that say how something was tested name tests that there are."""

import re
from pathlib import Path

import pytest


pytestmark = pytest.mark.infra

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("page", ["checkpoints.md", "monitoring.md"])
def test_each_test_that_a_page_names_is_there(page: str) -> None:
    files = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    names = re.findall(r"^ *(?:async )?def (test_\w+)", "\n".join(files.values()), re.MULTILINE)
    said = (ROOT / "docs" / page).read_text().partition("\n## How each ")[2]
    beginnings = re.findall(r"`(test_\w+)(?:\.\.\.)?(?:\[.*?\])?`", said)
    assert len(beginnings) > 40
    assert [one for one in beginnings if not any(name.startswith(one) for name in names)] == []
    places = re.findall(r"`([\w/]+\.py)`", said)
    assert [one for one in places if not any(path.match(one) for path in files)] == []
