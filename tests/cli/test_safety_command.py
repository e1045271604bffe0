"""`codex-jax safety`: what each command prints, in 80 columns or as one JSON document, and its exit code."""

import json
from pathlib import Path

import pytest
import small_writer

from codex_jax.errors import AssetError


pytestmark = pytest.mark.security

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def run(command):
    """Run a command, and see that it shows no token."""

    def safety(*arguments: str, stdin: bytes = b""):
        done = command("safety", *arguments, stdin=stdin)
        assert TOKEN not in done.out + done.err
        return done

    return safety


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a token, an address in JSONL, clean text, a binary file and a .git."""
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / ".git").mkdir()
    (tmp_path / "tree" / ".git" / "config").write_text(TOKEN)
    (tmp_path / "tree" / "a.py").write_text(f"\n  token = '{TOKEN}'\n")
    (tmp_path / "tree" / "clean.txt").write_text("nothing here\n")
    (tmp_path / "tree" / "picture.bin").write_bytes(b"\x89PNG\0" + TOKEN.encode())
    (tmp_path / "tree" / "inner" / "rows.jsonl").write_text('{"text": "x"}\n{"text": "of user@' + 'example.com"}\n')
    return tmp_path / "tree"


def test_scan_tells_places_and_ends_with_1(run, tree: Path) -> None:
    done = run("scan", "tree")
    assert done.code == 1
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[1:3] == [
        ["2:12", "github-token", "critical", "tree/a.py"],
        ["2:14", "email", "medium", "tree/inner/rows.jsonl"],
    ]
    assert done.out.splitlines()[-1] == "3 files: 1 critical, 1 medium; 1 binary file left out"
    assert done.err == "codex_jax: 2 findings in 2 files\n"


def test_scan_of_clean_files_ends_with_0(run, tree: Path) -> None:
    assert run("scan", "tree/clean.txt", "tree/picture.bin") == (
        0,
        "1 file: nothing; 1 binary file left out\n",
        "",
    )


def test_scan_prints_one_json_document(run, tree: Path) -> None:
    done = run("scan", "--json", "tree/a.py")
    place = {"line": 2, "column": 12, "rule": "github-token", "action": "redact", "severity": "critical"}
    assert json.loads(done.out) == {"findings": [{"file": "tree/a.py", **place}], "files": 1, "binary": 0}
    assert done.code == 1


def test_scan_reads_standard_input(run) -> None:
    done = run("scan", "-", stdin=f"\n{TOKEN}".encode())
    assert done.code == 1 and done.out.splitlines()[1].split() == ["2:1", "github-token", "critical", "-"]
    assert done.err == "codex_jax: 1 finding in 1 file\n"


def test_scan_takes_the_rules_and_the_stage_it_is_given(run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\nrules:\n  - {id: w, literals: word, action: block, stages: prompt}\n")
    (tmp_path / "a.txt").write_text(f"a word, {TOKEN}\n")
    assert run("scan", "--policy=p.yaml", "a.txt").code == 0
    done = run("scan", "--policy=p.yaml", "--stage=prompt", "a.txt")
    assert done.code == 1 and done.out.splitlines()[1].split() == ["1:3", "w", "high", "a.txt"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["scan"], 2, "PATH"),
        (["scan", "nowhere"], 3, "nowhere does not exist"),
        (["scan", "--policy=no.yaml", "."], 3, "no.yaml cannot be read"),
        (["scan", "--stage=never", "."], 2, "never"),
        (["scan", "/dev/zero"], 2, "/dev/zero is no file that ends"),
        (["check", "no.yaml"], 3, "no.yaml cannot be read"),
    ],
)
def test_wrong_usage_ends_with_its_code_and_reason(run, arguments: list[str], code: int, reason: str) -> None:
    done = run(*arguments)
    assert done.code == code and reason in done.err


def test_check_counts_the_rules_of_the_default_policy(run) -> None:
    done = run("check", "default")
    assert done.code == 0 and "rules in force, 1 off" in done.out
    facts = json.loads(run("check", "default", "--json").out)
    assert facts["stages"]["prompt"]["block"] == 7 and "block" not in facts["stages"]["train"]


def test_check_tells_everything_that_is_wrong(run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 1\nrules:\n  - {id: a, patterns: '('}\n  - {id: b}\n")
    done = run("check", "p.yaml")
    assert done.code == 3
    assert "line 3, rule a: the pattern ( is refused" in done.err and "line 4, rule b: a rule needs" in done.err


def test_explain_tells_rules_and_what_becomes_of_the_text(run) -> None:
    done = run("explain", f"rm -rf / with {TOKEN}")
    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert ["prompt", "blocked", "[REDACTED:deny.shell.rm_root]"] in [line[:3] for line in lines]
    assert ["github-token", "critical", "14-54", "redact"] in [line[:4] for line in lines]
    facts = json.loads(run("explain", "-", "--json", stdin=b"clean").out)
    assert facts["train"] == {"verdict": "unchanged", "blocked": [], "matches": [], "text": "clean"}


def test_audit_counts_decisions_and_names_the_line_that_does_not_follow(run, tmp_path: Path) -> None:
    with small_writer.bare(tmp_path / "run") as made:
        made.event("run.started", 0, {})
        made.event("safety.bypass_enabled", 0, {"reason": "a drill"})
        for rule in ("email", "email", "github-token"):
            made.event("safety.redacted", 1, {"rule": rule, "action": "redact"})
    whole = run("audit", "run")
    assert whole.code == 0 and "every event follows from the one before it" in whole.out
    assert "bypassed: a drill" in whole.out and "redact    email         2" in whole.out
    events = tmp_path / "run" / "events.ndjson"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(lines[:3] + lines[4:]))
    broken = run("audit", "run")
    assert broken.code == 3 and "line 4 does not follow from the lines before it" in broken.err
    assert json.loads(run("audit", "run", "--json").out)["broken_line"] == 4
    with pytest.raises(AssetError, match="line 4 does not follow"):
        small_writer.bare(tmp_path / "run", resume_step=1)
