"""`codex-jax model download`: what a model is known by, who may be asked, and what the catalogue compares."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hub_server
import pytest
from hub_server import COMMIT, Hub
from tiny_hub import REPOSITORY, WEIGHTS, download, restate, run

from codex_jax import config
from codex_jax.errors import AssetError
from codex_jax.models import catalogue, origin


pytestmark = pytest.mark.model


@pytest.mark.parametrize("revision", ["", "main", COMMIT[:7]])
def test_branch_is_refused_with_the_commit_it_is_at(served: Hub, capsys: Any, revision: str) -> None:
    said = run(capsys, "download", REPOSITORY, f"--revision={revision}", code=2)
    assert f"{revision or 'main'} of {REPOSITORY} is now at\n  --revision={COMMIT}\n" in said
    assert list(Path().iterdir()) == [] and len(served.seen) == 1


def test_token_is_sent_to_the_hub_alone_and_never_shown(
    served: Hub, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hf_thisIsNoRealToken"
    monkeypatch.setenv("HF_TOKEN", f"{secret}\n")
    other = Hub(REPOSITORY, served.files)
    with hub_server.serving(other) as address:
        served.elsewhere = address
        said = download(capsys)
    assert all(one.headers["authorization"] == f"Bearer {secret}" for one in served.seen)
    assert [one.path for one in other.seen] == [f"/elsewhere/{WEIGHTS}"]
    assert "authorization" not in other.seen[0].headers
    assert secret not in said and all(secret.encode() not in path.read_bytes() for path in Path("my-model").iterdir())
    served.faults["api"] = "401"
    refused = run(capsys, "download", REPOSITORY, f"--revision={COMMIT}", "--to=other", code=3)
    assert "and HF_TOKEN may not read it" in refused and secret not in refused
    monkeypatch.setenv("HF_TOKEN", f"{secret} twice")
    assert secret not in run(capsys, "download", REPOSITORY, f"--revision={COMMIT}", "--to=other", code=2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE=1 says that there is no network"),
        ("TRANSFORMERS_OFFLINE", "true", "TRANSFORMERS_OFFLINE=true says that there is no network"),
        ("CODEX_ALLOW_NETWORK", "0", "CODEX_ALLOW_NETWORK=0 says that there is no network"),
        ("HF_ENDPOINT", "http://mirror.example", "must begin with https://"),
        ("HF_ENDPOINT", "https://me:secret@mirror.example", "has a login in it"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "soon", "is no number of seconds"),
    ],
)
def test_variables_that_forbid_it_are_obeyed(
    served: Hub, capsys: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    message = download(capsys, code=2)
    assert said in message and "secret" not in message
    assert served.seen == []


def test_file_that_is_not_what_the_catalogue_knows_is_not_fetched(served: Hub, capsys: Any) -> None:
    served.repository = "sentence-transformers/all-MiniLM-L6-v2"
    restate(served, {"config.json": json.dumps(catalogue.entry("all-minilm-l6-v2").config).encode()})
    said = run(capsys, "download", "all-minilm-l6-v2", f"--revision={COMMIT}", code=3)
    assert "and the catalogue knows 53aa51172d14" in said and not served.asked(WEIGHTS)
    assert not Path("artifacts/models/all-minilm-l6-v2").exists()


def test_real_weights_by_name_are_those_of_the_catalogue(served: Hub, minilm: Path, capsys: Any) -> None:
    served.repository = "sentence-transformers/all-MiniLM-L6-v2"
    served.files = {path.name: path.read_bytes() for path in minilm.iterdir() if path.is_file()}
    restate(served, {})
    run(capsys, "download", "all-minilm-l6-v2", f"--revision={COMMIT}")
    found = run(capsys, "import", "all-minilm-l6-v2", "--json")
    here = Path("artifacts/models/all-minilm-l6-v2").absolute()
    assert found["from"].startswith(served.repository)
    named = config.Model(name="all-minilm-l6-v2", weights="offline")
    assert origin.weights(named) == here
    damaged = bytearray((here / WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    (here / WEIGHTS).write_bytes(damaged)
    with pytest.raises(AssetError, match=r"is not the file that the catalogue knows as all-minilm-l6-v2's"):
        origin.weights(named)


def test_a_mod_2_without_local_files_the_download_of_the_published_ones_is_named(served: Hub, capsys: Any) -> None:
    said = run(capsys, "import", "gpt2-offline", code=3)
    assert f"{Path().absolute()}/artifacts/models/gpt2 (artifacts/models)" in said
    command = "codex-jax model download gpt2-offline"
    assert f"where there is a network: {command}" in said and served.seen == []
    served.repository = "openai-community/gpt2"  # the remote id: this stands for local_files_only=false
    assert f"--revision={COMMIT}" in run(capsys, "download", "gpt2-offline", code=2)
    assert [one.path for one in served.seen] == ["/api/models/openai-community/gpt2/revision/main"]
    # This hub's is another model: what comes under a name of the catalogue has its sizes.
    refused = run(capsys, "download", "gpt2-offline", f"--revision={COMMIT}", code=2)
    assert "model.name=gpt2-offline has num_layers=12" in refused and not served.asked(WEIGHTS)
    assert not Path("artifacts/models/gpt2").exists()


_WATCHED = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(watch)
from codex_jax.cli import app
for line in (["list"], ["show", "gpt2"], ["import", "my-model"], ["import", "gpt2-offline"]):
    app.main(["model", *line])
asks = {"huggingface_hub", "httpx2", "codex_jax.models.hub", "codex_jax.models.download"} & set(sys.modules)
sys.exit(str(asks) if asks else 0)
"""


def test_no_other_command_for_models_asks_the_network_or_loads_what_could(
    served: Hub, main_env: dict[str, str], capsys: Any
) -> None:
    download(capsys)
    served.seen.clear()
    env = {**main_env, "HF_ENDPOINT": os.environ["HF_ENDPOINT"]}
    done = subprocess.run([sys.executable, "-c", _WATCHED], env=env, capture_output=True, text=True)
    assert (done.returncode, served.seen) == (0, []), done.stderr
    assert "some-one/Tiny.GPT at" in done.stdout
