import html.parser
import json
import math
import random
from pathlib import Path

import pytest
import small_writer

from codex_jax.errors import AssetError, ConfigError, TrainingStopped
from codex_jax.tracking import charts, report, report_facts, report_side
from codex_jax.tracking.curves import Curve


pytestmark = pytest.mark.infra

EVIL = "<script>alert('x')</script>\"&\x00\ud800 https://evil.example/x.js"


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and text by the tag it stands in; fails on a tag that is closed wrongly."""

    EMPTY = frozenset({"meta", "path", "circle", "input", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.open, self.rows = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def words(self):
        return " ".join(self.texts)


def write(workdir: Path) -> Path:
    return report.write_report(workdir, report_facts.collect(workdir))


def write_run(workdir, *, evil="plain", finish=True):
    settings = {"model": {"name": evil, "num_layers": 2, "width": 64}, "run": {"seed": 1}}
    origin = {"model.name": evil, "model.num_layers": "default", "model.width": "default", "run.seed": "command line"}
    with small_writer.bare(workdir, run_id=f"run {evil}") as writer:
        writer.event("run.started", 0, {"config_digest": evil, "parameters": 124_439_808, "devices": [evil]})
        writer.scalars(0, "baseline", {"unigram_entropy": 6.125})
        for step in range(1, 101):
            train = {"loss": 8 / step, "grad_norm": 1.0, "learning_rate": 1e-3, "tokens": step * 2048}
            writer.scalars(step, "train", train)
            writer.scalars(step, "speed", {"tokens_per_sec": 12_000.0})
        for step, loss in ((50, 3.5), (75, 3.25), (100, 3.375)):
            writer.scalars(step, "validation", {"loss": loss, "perplexity": math.exp(loss), "token_accuracy": 0.25})
            writer.text(step, evil, f"text of {step} {evil}")
            writer.event("checkpoint.saved", step, {"digest": evil, "bytes": 2_000_000})
        writer.event("data.quarantined", 1, {"file": evil, "line": 3, "offset": 1234, "reason": evil})
        counts = {"filtered": 20, "held_out": 300, "quarantined": 1, "read": 4321, "trained": 4000}
        writer.event("data.report", 100, {**counts, "safety": {f"redact/{evil}": 77}})
        if finish:
            writer.event("run.finished", 100, {"status": "finished", "seconds": 1.5})
    (workdir / "config.json").write_text(json.dumps({"settings": settings, "origin": origin}))
    (workdir / "provenance.json").write_text(json.dumps({"versions": {"python": evil}, "argv": [evil]}))


def test_the_page_shows_the_numbers_of_the_run(tmp_path):
    write_run(tmp_path)
    words = Page(write(tmp_path).read_text()).words
    expected = ["0.080", "3.250", "step 75", "25.8", "25.0 %", "6.125", "124M", "205k", "4,321", "77", "1,234"]
    expected += ["2.0 MB", "of step 100 alone", "command line", "text of 100", "finished", "unigram entropy"]
    assert [text for text in expected if text not in words] == []


def test_every_text_of_a_user_is_escaped(tmp_path):
    write_run(tmp_path, evil=EVIL)
    page = Page(write(tmp_path).read_text())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "iframe", "a", "link", "object"}
    assert page.words.count("<script>alert('x')</script>") >= 12
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing_and_runs_nothing(tmp_path):
    write_run(tmp_path)
    text = write(tmp_path).read_text()
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert not [name for _, attributes in page.tags for name in attributes if name in ("src", "href", "srcset")]
    policy = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_smoothing_is_chosen_without_a_script(tmp_path):
    """Each smoothing is drawn; the style sheet shows the one whose button is chosen, and one is from the start."""
    write_run(tmp_path)
    text = write(tmp_path).read_text()
    buttons = [attributes for tag, attributes in Page(text).tags if tag == "input"]
    assert [button["id"] for button in buttons] == [f"smoothing-{number}" for number in range(4)]
    assert [button["id"] for button in buttons if "checked" in button] == ["smoothing-2"]
    lines = [
        attributes["class"] for tag, attributes in Page(text).tags if attributes.get("class", "").startswith("line")
    ]
    for number in (1, 2, 3):
        assert f"line train smooth-{number}" in lines
        assert f"#smoothing-{number}:checked ~ .charts .smooth-{number}" in text


def test_evaluations_are_listed_with_the_best(tmp_path):
    write_run(tmp_path)
    rows = Page(write(tmp_path).read_text()).rows
    first = rows.index(["step", "loss", "perplexity", "token accuracy", ""])
    assert [row[0] for row in rows[first + 1 : first + 4]] == ["100", "75", "50"]
    assert rows[first + 2] == ["75", "3.2500", "25.8", "25.0 %", "best"]


def test_use_of_the_machine_is_drawn_where_it_was_looked_at(tmp_path):
    write_run(tmp_path)
    assert "System" not in Page(write(tmp_path).read_text()).texts
    metrics = {"process_rss_bytes": 2_500_000_000, f"gpu0_{EVIL}_percent": 71.5, "gpu0_power_watts": None}
    rows = [{"run_id": "r", "step": step, "time": 1.0 + step, "metrics": metrics} for step in range(1, 5)]
    torn = '{"run_id": "r", "st'
    (tmp_path / "system.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
    page = Page(write(tmp_path).read_text())
    assert "System" in page.texts and "process rss " in page.texts and "GB" in page.texts
    assert "power" not in page.words
    assert not {tag for tag, _ in page.tags} & {"script", "img"}


def test_several_runs_stand_side_by_side(tmp_path):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, evil=EVIL)
        record = json.loads((tmp_path / name / "config.json").read_text())
        record["settings"]["optimizer"] = {"learning_rate": rate}
        record["settings"]["train"] = {"log_every": rate}
        (tmp_path / name / "config.json").write_text(json.dumps({"run_id": name, **record}))
    made = report_side.write([tmp_path / "a", tmp_path / "b"], tmp_path / "both.html")
    page = Page(made.read_text())
    assert not {tag for tag, _ in page.tags} & {"script", "img", "a", "link"}
    assert ["optimizer.learning_rate", "0.1", "0.2"] in page.rows
    assert ["train.log_every (decides no number)", "0.1", "0.2"] in page.rows
    assert ["train/loss", "0.08", "0.08"] in page.rows
    assert "The same code, versions, machine and data." in page.texts
    looks = {attributes.get("class") for tag, attributes in page.tags if tag == "path"}
    assert {"line run-0 smooth-2", "line run-1 smooth-2"} <= looks


def test_a_narrow_screen_breaks_names_where_words_end_and_gives_details_a_line(tmp_path):
    write_run(tmp_path)
    text = write(tmp_path).read_text()
    assert "<td>model.<wbr>num_<wbr>layers</td>" in text
    assert text.count("<div class=events>") == 1 and ".events td:last-child { flex-basis: 100%" in text


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="9 runs are too many"):
        report_side.write([tmp_path / str(number) for number in range(9)], tmp_path / "page.html")
    with pytest.raises(ConfigError, match="named twice"):
        report_side.write([tmp_path, tmp_path / "x" / ".."], tmp_path / "page.html")


def test_a_run_that_has_only_started_has_a_report(tmp_path):
    with small_writer.bare(tmp_path) as writer:
        writer.event("run.started", 0, {})
    words = Page(write(tmp_path).read_text()).words
    assert "not finished" in words
    assert "No values yet." in words


def test_an_empty_run_directory_has_a_report_and_a_foreign_one_has_none(tmp_path):
    small_writer.bare(tmp_path).close("finished")
    assert "no rows yet" in write(tmp_path).read_text()
    with pytest.raises(AssetError, match="missing"):
        write(tmp_path.parent)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_config_is_named_and_the_old_report_stays(tmp_path, content):
    write_run(tmp_path)
    before = write(tmp_path).read_bytes()
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(AssetError, match=r"config\.json is damaged"):
        write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    write_run(tmp_path)
    (tmp_path / "report.html").mkdir()
    with pytest.raises(TrainingStopped, match=r"report\.html"):
        write(tmp_path)
    assert not (tmp_path / "report.html.tmp").exists()


def test_documents_are_in_one_order_whatever_that_of_the_ledger(tmp_path):
    write_run(tmp_path)
    rows = Page(write(tmp_path).read_text()).rows
    first = rows.index(["documents", "count"]) + 1
    assert [row[0] for row in rows[first : first + 5]] == ["read", "trained", "held out", "filtered", "quarantined"]


def test_a_start_says_only_what_is_news(tmp_path):
    made_with = {"commit": "fadb2f52a2b546d6b22a", "dirty": False, "versions": {"jax": "0.9", "flax": "0.12"}}
    now = {**made_with, "dirty": True, "versions": {"jax": "0.10", "flax": "0.12"}, "tokenizer": {"kind": "hf"}}
    refused = {"from_step": 4, "skipped": [[8, "meta.json: missing"]]}
    with small_writer.bare(tmp_path) as writer:
        writer.event("run.started", 0, made_with)
        writer.event("run.resumed", 4, {**refused, **made_with})
        writer.event("run.resumed", 4, {"from_step": 4, "skipped": [], **now})
        writer.event("run.finished", 9, {"status": "finished", "peak_rss_bytes": 635_269_120})
    rows = [row for row in Page(write(tmp_path).read_text()).rows if len(row) == 4 and row[2].startswith("run.")]
    assert [row[3] for row in rows] == [
        "commit fadb2f52a2b5",
        "from step 4 · checkpoint 8 refused: meta.json: missing · commit fadb2f52a2b5",
        "from step 4 · commit fadb2f52a2b5 with changes · jax 0.9 → 0.10 · tokenizer.kind none → hf",
        "status finished · peak rss 635.3 MB",
    ]


def test_time_at_work_leaves_out_the_pause_before_a_resume(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("codex_jax.tracking.ledger.time.time", lambda: now[0])
    with small_writer.bare(tmp_path) as writer:
        writer.event("run.started", 0, {})
        now[0] += 60
        writer.scalars(1, "train", {"loss": 1.0})
    now[0] += 86_400
    with small_writer.bare(tmp_path, resume_step=1) as writer:
        writer.event("run.resumed", 1, {"from_step": 1, "skipped": []})
        now[0] += 23
        writer.scalars(2, "train", {"loss": 1.0})
    assert "1m23s" in Page(write(tmp_path).read_text()).words


def test_a_long_curve_is_thinned_and_keeps_its_spikes():
    curve, random_numbers = Curve(), random.Random(0)
    spikes = {12_345: 99.0, 54_321: -99.0}
    for step in range(100_000):
        curve.add(step, spikes.get(step, random_numbers.random()))
    points = curve.points()
    assert len(points) <= 600
    assert spikes.items() <= set(points)
    assert points == sorted(points)
    assert curve.last[0] == 99_999


def test_a_short_curve_keeps_every_point():
    curve = Curve()
    given = [(step, float(step % 7)) for step in range(0, 3000, 20)]
    for step, value in given:
        curve.add(step, value)
    assert curve.points() == given


def test_smoothing_keeps_a_constant_and_the_first_value():
    flat, falling = Curve(), Curve()
    for step in range(1, 201):
        flat.add(step, 2.5)
        falling.add(step, 8 / step)
    assert {value for _, value in flat.smoothed()} == {2.5}
    assert falling.smoothed()[0] == (1, 8.0)


def test_values_that_are_not_finite_are_counted_not_drawn(tmp_path):
    with small_writer.bare(tmp_path) as writer:
        for step in range(1, 5):
            writer.scalars(step, "train", {"loss": math.inf if step == 2 else 1.0})
    text = write(tmp_path).read_text()
    assert "Rows whose loss was not finite: 1." in text
    assert "MNaN" not in text
    assert "nan" not in Page(text).words


@pytest.mark.parametrize(
    ("low", "high", "whole"), [(0, 600, True), (1, 2, True), (3.2, 8.4, False), (0, 3e-3, False), (-5, 1e9, False)]
)
def test_ticks_are_round_numbers_inside_the_range(low, high, whole):
    ticks = charts.tick_values(low, high, 5, whole=whole)
    assert 2 <= len(ticks) <= 12
    assert all(low <= tick <= high for tick in ticks)
    assert not whole or all(tick == int(tick) for tick in ticks)


@pytest.mark.parametrize("points", [[(1, 5.0)], [(1, 0.0), (2, 0.0)], [(0, 1e-9), (10, 1e12)], [(7, -3.0), (7, -3.0)]])
@pytest.mark.parametrize("from_zero", [True, False])
def test_a_chart_of_any_values_stays_inside_its_frame(points, from_zero):
    drawn = charts.line_chart(
        [charts.Series("a", "train", points)], label="a", width=360, height=220, from_zero=from_zero
    )
    shapes = [attributes for tag, attributes in Page(drawn).tags if tag in ("path", "circle")]
    line = [shape["d"] for shape in shapes if shape.get("class") == "line train"]
    places = [tuple(map(float, pair.split())) for path in line for pair in path.strip("M").split("L")]
    places += [(float(shape["cx"]), float(shape["cy"])) for shape in shapes if "cx" in shape]
    assert places
    assert all(0 <= x <= 360 and 0 <= y <= 220 for x, y in places)
