"""`codex-jax tokenizer`: what each command prints, in 80 columns or as one JSON document, and its exit code."""

import json
import os
from pathlib import Path

import pytest

from codex_jax.cli import app
from codex_jax.tokenizers import health, loading, resolve, training


pytestmark = pytest.mark.data


@pytest.fixture
def run(command, monkeypatch: pytest.MonkeyPatch):
    """Run a command on a machine where no variable names a place of tokenizers."""
    for name in (*resolve.ROOTS, *(asset.variable for asset in resolve.ASSETS.values())):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: command("tokenizer", *arguments)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A tokenizer with a manifest, in a directory below the current one."""
    (tmp_path / "corpus.txt").write_text("hello world, hello tokens\n" * 50)
    job = training.Job(
        lines=training.Lines(files=(tmp_path / "corpus.txt",)),
        kind="hf",
        recipe=training.Recipe(300, "unigram", 1.0),
        seed=0,
        train_bytes=10**6,
    )
    job.run(tmp_path / "made", force=False)
    return Path("made")


def test_without_a_command_there_is_help_and_exit_2(run, capsys: pytest.CaptureFixture[str]) -> None:
    done = run()
    assert (done.code, "Commands:" in done.out) == (2, True)
    assert app.main([]) == 2
    shown = capsys.readouterr()
    assert "tokenizer" in shown.out and "nothing was asked for" in shown.err
    done = run("--help")
    assert (done.code, done.err) == (0, "")


def test_list_names_kinds_and_assets_with_their_source(run) -> None:
    rows = json.loads(run("list", "--json").out)
    assert [row["name"] for row in rows if row["what"] == "kind"] == [
        "byte",
        "gpt2",
        "hf",
        "sentencepiece",
        "whitespace",
        "wordpiece",
    ]
    assert all(row["source"].startswith("built-in, codex_jax") for row in rows if row["what"] == "kind")
    assert {row["name"] for row in rows if row["what"] == "asset"} == set(resolve.ASSETS)
    assert len(run("list").out.splitlines()) == len(rows) + 1


def test_check_of_nothing_on_the_machine_is_no_failure_until_it_is_named(run) -> None:
    done = run("check")
    assert done.code == 0 and "gpt2: absent" in done.out and "artifacts/models" in done.out
    done = run("check", "gpt2")
    assert done.code == 3 and "1 of 1 tokenizers cannot be used: gpt2" in done.err


def test_check_tells_all_of_an_asset(run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_GPT2_TOKENIZER_PATH", "made")
    done = run("check", "gpt2", "--json")
    (found,) = json.loads(done.out)
    tokenizer = loading.load(made)
    assert (done.code, found["state"], found["kind"], found["manifest"]) == (0, "well", "hf", "agrees")
    assert (found["path"], found["rule"]) == ("made", "CODEX_GPT2_TOKENIZER_PATH")
    assert found["checked"] == [{"path": "made", "rule": "CODEX_GPT2_TOKENIZER_PATH", "found": True}]
    assert set(found["files"]) == {"tokenizer.json", "tokenizer_config.json", "manifest.json"}
    assert (found["digest"], found["vocab_size"]) == (tokenizer.digest, tokenizer.vocab_size)
    assert found["roles"] == {"eos": tokenizer.eos_id, "pad": None, "bos": None, "unk": None}
    assert (found["special_tokens"], found["lost"]) == ({"<|endoftext|>": tokenizer.eos_id}, [])
    text = run("check", "gpt2").out
    for part in ("gpt2: well", "agrees", tokenizer.digest, "pad none", "gives back every probe"):
        assert part in text


def test_check_finds_the_ill_one_among_others(run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made / "tokenizer.json"
    file.write_text(file.read_text().replace("hello", "olleh"))
    done = run("check", str(made), "--json")
    (found,) = json.loads(done.out)
    assert (done.code, found["state"], found["manifest"]) == (3, "ill", "differs")
    assert "tokenizer.json differs from manifest.json" in found["problem"]
    monkeypatch.setenv("CODEX_GPT2_TOKENIZER_PATH", "nowhere")
    done = run("check")
    assert done.code == 3
    assert "CODEX_GPT2_TOKENIZER_PATH=nowhere does not exist" in " ".join(done.out.split())


def test_path_that_cannot_be_read_is_ill(run) -> None:
    done = run("check", 300 * "x", "--json")
    assert done.code == 3 and "cannot be read: File name too long" in json.loads(done.out)[0]["problem"]


def test_probes_that_are_lost_are_named(run, tmp_path: Path) -> None:
    training.train(["a b"], 10, kind="whitespace").save(tmp_path / "words")
    assert health.check("words").lost == list(health.PROBES)
    assert "loses tabs, CRLF" in run("check", "words").out


def test_show_has_the_chat_template_and_refuses_what_is_not_there(run, made: Path) -> None:
    (made / "chat_template.jinja").write_text("{{ messages }}")
    assert json.loads(run("show", "made", "--json").out)["chat_template"] == "{{ messages }}"
    assert "{{ messages }}" in run("show", "made").out
    done = run("show", "gone")
    assert (done.code, done.out) == (3, "") and "gone does not exist; name a tokenizer.json" in done.err


def test_encoded_text_is_decoded(run, made: Path, tmp_path: Path) -> None:
    done = run("encode", "made", "hello  world<|endoftext|>")
    assert done.code == 0
    assert run("decode", "made", *done.out.split()).out == "hello  world<|endoftext|>\n"
    assert run("decode", "made", ",".join(done.out.split())).out == "hello  world<|endoftext|>\n"
    (tmp_path / "long.txt").write_bytes(b"hello\r\n" * 100)
    ids = run("encode", "made", "--from-file", "long.txt").out.split()
    assert run("decode", "made", *ids).out == "hello\r\n" * 100 + "\n"
    tokens = run("encode", "made", "hello world", "--tokens").out.splitlines()
    assert [line.split()[1] for line in tokens] == ["'hello'", "'\u0120world'"]


def test_kind_that_files_do_not_show_is_named(run, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"<unk>": 0, "hello": 1, "world": 2}')
    assert run("encode", "words.json", "hello world").code == 3
    assert run("encode", "words.json", "world hello you", "--kind", "whitespace").out == "2 1 0\n"
    assert run("decode", "words.json", "2", "1", "--kind", "whitespace").out == "world hello\n"
    assert run("check", "words.json", "--kind", "whitespace").code == 0
    assert run("show", "words.json", "--kind", "whitespace").code == 0
    assert run("export", "words.json", "copy", "--kind", "whitespace").code == 0
    assert run("encode", "copy", "world hello").out == "2 1\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["encode", "made"], 2, "either TEXT or --from-file"),
        (["encode", "made", "a", "--from-file", "corpus.txt"], 2, "either TEXT or --from-file"),
        (["encode", "made", "--from-file", "gone.txt"], 3, "gone.txt cannot be read"),
        (["encode", "made", "a\udcff"], 2, "TEXT is not UTF-8 at character 1"),
        (["decode", "made", "5,x"], 2, "x is not an id: made has those from 0 to"),
        (["decode", "made", "4000"], 2, "4000 is not an id"),
        (["encode", "tinyllama", "a"], 3, "CODEX_TINYLLAMA_TOKENIZER_PATH"),
        (["train", "gone/*.txt", "--out", "new"], 3, "no file matches gone/*.txt"),
        (["train", "corpus.txt", "--out", "new", "--vocab-size", "256"], 2, "the least is 257"),
        (["train", "corpus.txt", "--out", "made"], 3, "made is not empty"),
        (["train", "corpus.txt", "--out", "new", "--kind", "byte"], 2, "of kind byte are not trained"),
        (["train", "corpus.txt", "--out", "new", "--kind", "bite"], 2, "did you mean byte?"),
        (["train", "corpus.txt", "--out", "new", "--algorithm", "bpe"], 2, "of kind sentencepiece, not of hf"),
        (["train", "corpus.txt"], 2, "--out"),
        (["export", "made", "."], 3, "is not empty"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_named(run, made: Path, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in done.err and "Traceback" not in done.err
    assert not Path("new").exists()


def test_dry_run_prints_the_plan_and_writes_nothing(run, made: Path) -> None:
    before = sorted(os.listdir())
    done = run("train", "*.txt", "--out", "new", "--kind", "sentencepiece", "--seed", "3", "--dry-run", "--json")
    assert done.code == 2  # it is JSON in any case
    plan = json.loads(run("train", "*.txt", "--out", "new", "--kind", "sentencepiece", "--seed", "3", "--dry-run").out)
    assert plan["config"]["kind"] == "sentencepiece" and plan["config"]["seed"] == 3
    assert plan["corpus"] == {"files": ["corpus.txt"], "bytes": 1300} and plan["out"] == "new"
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "options",
    [
        ["--vocab-size", "300"],
        ["--kind", "sentencepiece", "--vocab-size", "290"],
        ["--kind", "sentencepiece", "--algorithm", "bpe", "--vocab-size", "290", "--character-coverage", "1"],
        ["--kind", "whitespace", "--vocab-size", "20"],
    ],
)
def test_trained_tokenizer_is_well_and_can_be_exported(run, made: Path, options: list[str]) -> None:
    assert run("train", "corpus.txt", "--out", "new", *options).code == 0
    assert run("train", "corpus.txt", "--out", "new", *options, "--force").code == 0
    assert json.loads(run("check", "new", "--json").out)[0]["manifest"] == "agrees"
    done = run("export", "new", "copy")
    assert (done.code, set(os.listdir("copy"))) == (0, {*os.listdir("new"), "README.md"})
    for path in Path("new").iterdir():
        assert (Path("copy") / path.name).read_bytes() == path.read_bytes()
    assert loading.load(Path("copy")).digest in Path("copy/README.md").read_text()


def test_larger_corpus_is_drawn_by_the_seed(run, tmp_path: Path) -> None:
    words = [" ".join(f"word{number * place % 97}" for place in range(40)) for number in range(3000)]
    (tmp_path / "large.txt").write_text("\n".join(words))
    digests = []
    for seed in ("1", "1", "2"):
        done = run("train", "large.txt", "--out", "new", "--force", "--seed", seed, "--train-bytes", "50000")
        digests.append(done.out.split()[-1])
    assert digests[0] == digests[1] != digests[2]
