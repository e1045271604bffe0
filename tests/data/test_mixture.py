"""Several sources in one stream: in their shares, in an order that only the seed decides, resumable anywhere."""

import json
from pathlib import Path
from typing import Any

import corpora
import pytest

from codex_jax import config, overrides
from codex_jax.data import pipeline
from codex_jax.errors import ConfigError


pytestmark = pytest.mark.data


def write_sources(directory: Path) -> None:
    words = "alpha beta gamma delta"
    (directory / "a.txt").write_text("".join(f"aaaa {words} {number}\n" for number in range(3000)))
    rows = (json.dumps({"body": f"bbbb {words} {number}"}) for number in range(600))
    (directory / "b.jsonl").write_text("".join(row + "\n" for row in rows))


def settings_of(directory: Path, **changes: Any) -> config.Config:
    write_sources(directory)
    nested = config.default()
    config.add_source(nested, "prose", paths=(str(directory / "a.txt"),), weight=0.25)
    config.add_source(nested, "rows", paths=(str(directory / "b.jsonl"),), text_field="body", weight=0.75)
    flat = {"data.window_bytes": 8192, "data.document_bytes": 256, "data.sequence_length": 32, **changes}
    for name, value in flat.items():
        nested.update_from_flattened_dict({name: value})
    return config.resolve(nested.to_dict())


def stream_of(settings: config.Config) -> pipeline.TrainStream:
    return pipeline.train_stream(settings, pipeline.open_mixture(settings.data), corpora.TOKENIZER, 4)


def test_sources_come_in_the_shares_of_their_weights(tmp_path: Path) -> None:
    stream = stream_of(settings_of(tmp_path))
    text = "".join(corpora.TOKENIZER.decode(row) for _ in range(200) for row in next(stream).tokens_BL)
    stream.close()
    rows, prose = text.count("bbbb"), text.count("aaaa")
    # A line of either is as long as the other but for the braces and names of JSON, which are no text: 35 bytes of 48.
    assert rows / (rows + prose) == pytest.approx(0.75 * 35 / 48 / (0.75 * 35 / 48 + 0.25), abs=0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_mixture_resumes_anywhere_whatever_the_workers(tmp_path: Path, workers: int) -> None:
    settings = settings_of(tmp_path)
    straight = stream_of(settings)
    batches = [next(straight) for _ in range(12)]
    straight.close()
    first = stream_of(settings)
    for _ in range(5):
        next(first)
    state = json.loads(json.dumps(first.state()))
    first.close()
    second = stream_of(settings_of(tmp_path, **{"data.workers": workers}))
    second.restore(state)
    for expected in batches[5:]:
        assert all((one == other).all() for one, other in zip(next(second), expected, strict=True))
    second.close()


def test_another_weight_is_another_stream(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    stream = stream_of(settings)
    state = stream.state()
    stream.close()
    other = stream_of(settings_of(tmp_path, **{"data.mix.rows.weight": 0.5}))
    with pytest.raises(Exception, match=r"data\.mix\.rows\.weight: '3/4', now '1/2'"):
        other.restore(state)
    other.close()


def test_source_can_be_named_on_the_command_line(tmp_path: Path) -> None:
    write_sources(tmp_path)
    file = tmp_path / "c.py"
    file.write_text("from codex_jax import config\ndef get_config():\n    return config.default()\n")
    changes = [("data.mix.prose.paths", str(tmp_path / "a.txt")), ("data.mix.code.source", "stdlib")]
    settings, origin = overrides.load(str(file), changes)
    assert list(settings.data.mix) == ["prose", "code"]
    assert settings.data.mix["code"].weight == 0.0 and origin["data.mix.code.source"] == "command line"
    assert hash(settings) == hash(overrides.load(str(file), changes)[0])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"data.paths": ("x",)}, "data.mix names the sources: leave out data.paths"),
        ({"data.mix.rows.weight": 0.0}, "data.mix.rows has none: give all of them one, or none"),
        ({"data.mix.rows.source": "stdlib"}, "data.mix.rows.source=stdlib reads no data.mix.rows.paths"),
        ({"data.mix.rows.paths": ()}, None),
        ({"data.validation_fraction": 0.0}, "raise it or name data.mix.prose.validation_paths"),
    ],
)
def test_contradictions_name_the_source(tmp_path: Path, changes: dict[str, Any], complaint: str | None) -> None:
    if complaint is None:
        assert settings_of(tmp_path, **changes).data.mix["rows"].paths == ()
        return
    with pytest.raises(ConfigError) as refused:
        settings_of(tmp_path, **changes)
    assert complaint in str(refused.value)


def test_unknown_key_of_a_source_is_named(tmp_path: Path) -> None:
    nested = config.default()
    config.add_source(nested, "prose", paths=("x",), wieght=0.3)
    with pytest.raises(ConfigError, match=r"data\.mix\.prose\.wieght \(did you mean data\.mix\.prose\.weight\?"):
        config.resolve(nested.to_dict())
