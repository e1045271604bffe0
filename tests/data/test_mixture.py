"""Several sources in one stream: in their shares, in an order that only the seed decides, resumable anywhere."""

import json
from pathlib import Path
from typing import Any

import corpora
import numpy as np
import pytest

from codex_jax import config, overrides
from codex_jax.data import pipeline, store, stores
from codex_jax.errors import AssetError, ConfigError


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


def stream_of(settings: config.Config) -> pipeline.Stream:
    return pipeline.train_stream(settings, corpora.opened(settings), corpora.TOKENIZER, 4)


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


@pytest.fixture
def stored(tmp_path: Path) -> config.Config:
    settings = settings_of(tmp_path, **{"data.mode": "store", "data.store": str(tmp_path / "store")})
    stores.make(settings, corpora.opened(settings), corpora.TOKENIZER)
    return settings


def test_the_directory_of_a_mixture_is_told_from_a_store_that_is_not_finished(stored: config.Config) -> None:
    with pytest.raises(AssetError, match=r"holds the stores of a mixture: name one of .*store/prose, .*store/rows"):
        store.read(Path(stored.data.store))


def test_stores_of_a_mixture_come_in_the_shares_of_their_weights(stored: config.Config, tmp_path: Path) -> None:
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["prose", "rows"]
    stream = stream_of(stored)
    batches = [next(stream) for _ in range(256)]  # 1,024 rows: the shares are exact
    text = "".join(corpora.TOKENIZER.decode(row) for batch in batches for row in batch.tokens_BL)
    rows, prose = text.count("bbbb"), text.count("aaaa")
    assert rows / (rows + prose) == pytest.approx(0.75 * 35 / 48 / (0.75 * 35 / 48 + 0.25), abs=0.05)


def test_every_row_of_every_store_comes_once_in_its_epoch(stored: config.Config) -> None:
    mixture = corpora.opened(stored)
    blend = stores._blend(stored, mixture, stores._found(stored, mixture, corpora.TOKENIZER), "train", 0)
    found_B, numbers_B = blend.deal(np.arange(40_000))
    for place, count in enumerate(blend.counts):
        mine = np.sort(numbers_B[found_B == place])
        assert mine.size > 3 * count  # several epochs
        assert (mine[: 3 * count] == np.arange(3 * count)).all()
        rows = blend._shuffled(place, mine[: 3 * count])
        assert (np.sort(rows[:count]) == np.arange(count)).all() and (rows[:count] != rows[count : 2 * count]).any()
    assert [int((found_B[: 1024 * n] == 1).sum()) for n in (1, 2, 30)] == pytest.approx(
        [float(blend._shares[1]) * 1024 * n for n in (1, 2, 30)], abs=1
    )


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_batches_of_stores_are_the_same_from_any_place_and_for_any_hosts(stored: config.Config, hosts: int) -> None:
    straight, mixture = stream_of(stored), corpora.opened(stored)
    batches = [next(straight) for _ in range(300)]
    state = json.loads(json.dumps(stream_of(stored).state())) | {"row": 4 * 290}
    for host in range(hosts):
        stream = pipeline.train_stream(stored, mixture, corpora.TOKENIZER, 4, (host, hosts))
        stream.restore(state)
        own = slice(4 * host // hosts, 4 * (host + 1) // hosts)
        for expected in batches[290:]:
            assert all((one == other[own]).all() for one, other in zip(next(stream), expected, strict=True))


def test_validation_draws_no_row_twice(stored: config.Config) -> None:
    batches, report = pipeline.validation_batches(stored, corpora.opened(stored), corpora.TOKENIZER, 4)
    rows = [tuple(row) for batch in batches for row in batch.tokens_BL if row.any()]
    assert len(rows) == len(set(rows)) > 8 and report.trained > 10


def test_another_weight_is_another_stream(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    stream = stream_of(settings)
    state = stream.state()
    stream.close()
    other = stream_of(settings_of(tmp_path, **{"data.mix.rows.weight": 0.5}))
    with pytest.raises(Exception, match=r"data\.mix\.rows\.weight: '3/4' in the checkpoint, '1/2' now"):
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
        ({"data.text_field": "x"}, "leave out data.text_field, or say it of a source: data.mix.prose.text_field"),
        ({"data.document": "line"}, "data.mix names the sources: leave out data.document"),
        ({"data.mix.rows.document": "line"}, None),
        ({"data.mix.rows.paths": ()}, "data.mix.rows names neither files nor a source: set data.mix.rows.paths"),
        ({"data.mix.rows.weight": 0.0}, "data.mix.rows has none: give all of them one, or none"),
        ({"data.mix.rows.source": "stdlib"}, "data.mix.rows.source=stdlib reads no data.mix.rows.paths"),
        (
            {"data.mix.rows.validation_paths": ("x",), "data.test_fraction": 0.1},
            "data.test_fraction=0.1 is a share of data.mix.rows.paths",
        ),
        ({"data.mix.rows.paths": (), "data.mix.rows.source": "stdlib"}, None),
        ({"data.validation_fraction": 0.0}, "raise it or name data.mix.prose.validation_paths"),
    ],
)
def test_contradictions_name_the_source(tmp_path: Path, changes: dict[str, Any], complaint: str | None) -> None:
    if complaint is None:
        settings_of(tmp_path, **changes)
        return
    with pytest.raises(ConfigError) as refused:
        settings_of(tmp_path, **changes)
    assert complaint in str(refused.value)


def test_unknown_key_of_a_source_is_named(tmp_path: Path) -> None:
    nested = config.default()
    config.add_source(nested, "prose", paths=("x",), wieght=0.3)
    with pytest.raises(ConfigError, match=r"data\.mix\.prose\.wieght \(did you mean data\.mix\.prose\.weight\?"):
        config.resolve(nested.to_dict())
