"""Adapters: equal to the base at first, to PEFT under torch in values and gradients, and folded in without a trace."""

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_models
from test_families import logits

from codex_jax import config, trees
from codex_jax.errors import AssetError, ConfigError
from codex_jax.models import build, lora, peft_files
from codex_jax.training import losses


pytestmark = pytest.mark.model

# The products that have adapters, in PEFT's words and in ours; GPT-2's fused one among them.
TARGETS = {
    "gpt2": (["attn.c_attn", "mlp.c_proj"], ("qkv", "mlp/down")),
    "llama": (["q_proj", "v_proj", "gate_proj", "down_proj"], ("query|value", "gate|down")),
    "qwen2": (["k_proj", "o_proj"], ("attention/(key|out)",)),
    # Of the two products of a layer that BERT calls output.dense one alone.
    "bert": (["query", "value", *(f"{layer}.output.dense" for layer in range(3))], ("query|value", "mlp/down")),
}
# Each product with one scale of the two, and both with one product; the rest is slow.
SCALED = [
    pytest.param(name, rslora, marks=[] if name == "gpt2" or rslora == (name == "llama") else pytest.mark.slow)
    for name in TARGETS
    for rslora in (False, True)
]


def adapter_of(name: str, **changes: Any) -> config.Adapter:
    return config.Adapter(rank=3, alpha=5.0, targets=TARGETS[name][1], **changes)


def adapted(name: str, made: Any, **changes: Any) -> tuple[build.Definition, dict[str, Any]]:
    """A model with adapters of which neither half is zero."""
    base = build.define(torch_models.settings_of(made))
    definition = lora.adapted(base, adapter_of(name, **changes))
    fresh = lora.initial(definition.abstract, jax.random.key(0))
    filled = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), fresh)
    return definition, trees.joined(torch_models.parameters_of(made, base), filled)


def tokens_of(definition: build.Definition, length: int = 24) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, definition.shape.vocab_size, (2, length)).astype(np.int32)


def exported(directory: Path, definition: build.Definition, parameters: Any, adapter: config.Adapter) -> Path:
    directory.mkdir()
    peft_files.write(directory, definition, lora.split(parameters)[1], adapter, "base")
    return directory


def torch_logits(torch: ModuleType, network: Any, tokens_BL: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: np.ndarray[Any, Any] = network(torch.from_numpy(tokens_BL).long()).logits.numpy()
    return found


def places(definition: build.Definition) -> Any:
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: where, lora.split(definition.abstract)[1])


@pytest.mark.parametrize("name", TARGETS)
def test_adapted_model_is_its_base_at_first(torch_oracle: ModuleType, name: str) -> None:
    made = torch_models.network(name)
    base = build.define(torch_models.settings_of(made))
    definition = lora.adapted(base, adapter_of(name))
    parameters = torch_models.parameters_of(made, base)
    fresh = lora.initial(definition.abstract, jax.random.key(0))
    assert not any(np.any(leaf) for leaf_name, leaf in trees.named_leaves(fresh) if leaf_name.endswith("lora_b"))
    tokens_BL = tokens_of(base)
    np.testing.assert_array_equal(
        logits(definition, trees.joined(parameters, fresh), tokens_BL), logits(base, parameters, tokens_BL)
    )


@pytest.mark.parametrize(("name", "rslora"), SCALED)
def test_peft_loads_what_was_exported(torch_oracle: ModuleType, tmp_path: Path, name: str, rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    made = torch_models.network(name)
    definition, parameters = adapted(name, made, rslora=rslora)
    directory = exported(tmp_path / "out", definition, parameters, adapter_of(name, rslora=rslora))
    tokens_BL = tokens_of(definition)
    plain = torch_logits(torch_oracle, made, tokens_BL)
    network = peft.PeftModel.from_pretrained(made, directory).eval()
    expected = torch_logits(torch_oracle, network, tokens_BL)
    np.testing.assert_allclose(logits(definition, parameters, tokens_BL), expected, atol=2e-4)
    assert np.abs(expected - plain).max() > 0.01


@pytest.mark.parametrize(("name", "rslora"), SCALED)
def test_adapter_of_peft_is_loaded(torch_oracle: ModuleType, tmp_path: Path, name: str, rslora: bool) -> None:
    made = torch_models.network(name)
    network = peft_network(torch_oracle, made, name, rslora=rslora)
    network.save_pretrained(tmp_path)
    settings = dataclasses.replace(
        config.Config(),
        model=dataclasses.replace(torch_models.settings_of(made), weights="base"),
        adapter=config.Adapter(weights=str(tmp_path), dropout=0.1),
    )
    base = build.define(torch_models.settings_of(made))
    adapter = peft_files.decided(settings, base).adapter
    assert (adapter.rank, adapter.alpha, adapter.rslora, adapter.dropout) == (3, 5.0, rslora, 0.1)
    definition = lora.adapted(base, adapter)
    loaded = peft_files.load(tmp_path, definition, places(definition))
    parameters = trees.joined(torch_models.parameters_of(network.unload(), base), loaded)
    network = peft_network(torch_oracle, torch_models.network(name), name, rslora=rslora)
    tokens_BL = tokens_of(base)
    expected = torch_logits(torch_oracle, network.eval(), tokens_BL)
    np.testing.assert_allclose(logits(definition, parameters, tokens_BL), expected, atol=2e-4)
    # Written again it is the same file of tensors.
    exported(tmp_path / "again", definition, parameters, adapter)
    again = peft_files.load(tmp_path / "again", definition, places(definition))
    jax.tree.map(np.testing.assert_array_equal, loaded, again)


def peft_network(torch: ModuleType, made: Any, name: str, *, rslora: bool = False) -> Any:
    """A model of torch under PEFT, its adapters random in both halves, the same ones each time."""
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        use_rslora=rslora,
        target_modules=TARGETS[name][0],
        fan_in_fan_out=name == "gpt2",
        task_type=None if name == "bert" else "CAUSAL_LM",
    )
    network = peft.get_peft_model(made, options)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_loss_and_gradients_equal_those_of_peft(torch_oracle: ModuleType, tmp_path: Path, name: str) -> None:
    made = torch_models.network(name)
    base = build.define(torch_models.settings_of(made))
    weights = torch_models.parameters_of(made, base)
    network = peft_network(torch_oracle, made, name)
    network.save_pretrained(tmp_path)
    definition = lora.adapted(base, adapter_of(name))
    adapters = peft_files.load(tmp_path, definition, places(definition))
    tokens_BL = tokens_of(base)
    batch = (tokens_BL[:, :-1], tokens_BL[:, 1:], np.ones((2, 23), np.float32), *2 * (np.ones((2, 23), np.int32),))
    batch = (*batch[:4], np.broadcast_to(np.arange(23, dtype=np.int32), (2, 23)))

    @jax.jit
    @jax.value_and_grad
    def run(adapters: Any) -> jax.Array:
        sums = losses.of_batch(definition, trees.joined(weights, adapters), batch, None, chunk=10)
        return sums.loss / sums.weight

    loss, slopes = run(adapters)
    ids = torch_oracle.from_numpy(tokens_BL).long()
    expected = torch_oracle.nn.functional.cross_entropy(network(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    gradients = {one: leaf.grad for one, leaf in network.named_parameters() if leaf.grad is not None}
    ours = dict(trees.named_leaves(slopes))
    seen = 0
    for part in peft_files.parts(definition):
        for layer, tensor in enumerate(part.names):
            theirs = gradients[tensor.replace(".weight", ".default.weight")].numpy().T
            np.testing.assert_allclose(ours[part.leaf][layer], theirs, atol=2e-6 + 1e-3 * np.abs(theirs).max())
            seen += 1
    assert seen == len(gradients)


@pytest.mark.parametrize("name", TARGETS)
def test_merged_parameters_give_the_same_logits_without_adapters(torch_oracle: ModuleType, name: str) -> None:
    made = torch_models.network(name)
    definition, parameters = adapted(name, made, rslora=True)
    base = build.define(torch_models.settings_of(made))
    folded = jax.jit(lambda parameters: lora.merged(parameters, adapter_of(name, rslora=True)))(parameters)
    assert jax.tree.map(jnp.shape, folded) == jax.tree.map(lambda leaf: leaf.shape, base.abstract)
    tokens_BL = tokens_of(base)
    np.testing.assert_allclose(logits(base, folded, tokens_BL), logits(definition, parameters, tokens_BL), atol=2e-4)


GPT2 = '{"model_type": "gpt2", "vocab_size": 64, "n_positions": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}'
SMALL = build.define(config.Model(architecture=GPT2, compute_dtype="float32", attention="xla"))


def compiled_step(definition: build.Definition) -> str:
    """The compiled gradient by what is trained, of a batch with a size that is no size of the model."""
    base, adapters = lora.split(definition.abstract)
    trained, frozen = (adapters, base) if adapters else (base, {})
    ints, floats = jax.ShapeDtypeStruct((5, 11), jnp.int32), jax.ShapeDtypeStruct((5, 11), jnp.float32)

    def loss(trained: Any, frozen: Any, *batch: jax.Array) -> jax.Array:
        return losses.of_batch(definition, trees.joined(trained, frozen), batch, None, chunk=5).loss

    return jax.jit(jax.grad(loss)).lower(trained, frozen, ints, ints, floats, ints, ints).compile().as_text()


def test_no_gradient_of_the_size_of_a_kernel_is_made() -> None:
    sizes = ["f32[32,96]", "f32[32,128]", "f32[128,32]", "f32[32,32]", "f32[64,32]"]

    def made(definition: build.Definition) -> list[str]:
        lines = compiled_step(definition).splitlines()
        return [size for size in sizes if any(f" = {size}" in line and " dot(" in line for line in lines)]

    assert made(SMALL) == sizes
    assert made(lora.adapted(SMALL, config.Adapter(rank=4, targets=("attention", "mlp")))) == []


def test_dropout_reads_a_key_of_its_own_for_each_product_and_layer() -> None:
    definition = lora.adapted(SMALL, config.Adapter(rank=4, dropout=0.5, targets=("qkv", "mlp/up")))
    module = definition.bind(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), definition.abstract), jax.random.key(3))
    dense = [module.blocks.attention.qkv, module.blocks.mlp.up]
    keys = [jax.random.key_data(one.dropout_key[...]) for one in dense]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 4
    drawn = {bytes(np.asarray(jax.random.key_data(key))) for key in jax.random.split(jax.random.key(3), 3)}
    assert not drawn & {bytes(np.asarray(key)) for part in keys for key in part}
    assert not hasattr(module.blocks.mlp.down, "dropout_key")


def test_dropout_acts_while_training_only_and_on_the_adapter_alone() -> None:
    definition = lora.adapted(SMALL, config.Adapter(rank=4, dropout=0.5, targets=("qkv",)))
    base = jax.jit(lambda: build.initial(config.Model(architecture=GPT2), jax.random.key(0)))()
    adapters = jax.tree.map(lambda leaf: 0.3 + jnp.zeros(leaf.shape), lora.split(definition.abstract)[1])
    none = jax.tree.map(jnp.zeros_like, adapters)
    tokens_BL = tokens_of(SMALL, 12)
    batch = (
        tokens_BL,
        tokens_BL,
        np.ones((2, 12), np.float32),
        np.ones((2, 12), np.int32),
        np.zeros((2, 12), np.int32),
    )

    def loss(adapters: Any, key: jax.Array | None) -> float:
        return float(losses.of_batch(definition, trees.joined(base, adapters), batch, key, chunk=64).loss)

    assert loss(adapters, jax.random.key(1)) == loss(adapters, jax.random.key(1)) != loss(adapters, None)
    assert loss(adapters, jax.random.key(1)) != loss(adapters, jax.random.key(2))
    assert loss(none, jax.random.key(1)) == loss(none, None)


def test_pattern_that_matches_no_product_is_named_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"2 mistakes(.|\n)*q_proj matches none of blocks/attention/out, .*blocks/mlp/up"
    ):
        lora.adapted(SMALL, config.Adapter(rank=2, targets=("q_proj", "mlp", "norm")))


def test_wrong_values_are_named_in_one_message() -> None:
    settings = config.default()
    settings.adapter.update(rank=0, alpha=0.0, dropout=1.0, targets=("qkv", "mlp("))
    with pytest.raises(ConfigError, match="4 mistakes") as refused:
        config.resolve(settings.to_dict())
    for said in (
        "adapter.rank=0 makes no",
        "adapter.alpha=0.0 is too small",
        "adapter.dropout=1.0 is too large",
        "mlp(",
    ):
        assert said in str(refused.value)


def test_adapter_on_random_weights_is_refused() -> None:
    settings = config.default()
    settings.adapter.rank = 4
    with pytest.raises(ConfigError, match=r"would adapt random weights(.|\n)*model.weights"):
        config.resolve(settings.to_dict())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head']"),
        ({"bias": "all"}, "bias='all'"),
        ({"rank_pattern": {"q": 4}, "alpha_pattern": {"q": 4}}, "alpha_pattern={'q': 4}, rank_pattern={'q': 4}"),
        ({"layers_to_transform": [1]}, "layers_to_transform=[1]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"peft_type": "IA3"}, "peft_type='IA3'"),
        ({"r": 0, "lora_alpha": 0}, "r=0, lora_alpha=0"),
        ({"invented_next_year": 1}, "invented_next_year=1"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
    ],
)
def test_what_peft_can_say_and_is_not_supported_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    directory, settings = written(tmp_path)
    edit(directory, changes)
    with pytest.raises(AssetError) as refused:
        peft_files.decided(settings, SMALL)
    assert named in str(refused.value)


def test_adapter_that_does_not_fit_is_refused_with_every_tensor(tmp_path: Path) -> None:
    directory, _ = written(tmp_path)
    definition = lora.adapted(SMALL, config.Adapter(rank=3, targets=("mlp/up",)))
    with pytest.raises(
        AssetError, match=r"8 tensors differ(.|\n)*h\.0\.mlp\.c_fc\.lora_A\.weight: is missing"
    ) as refused:
        peft_files.load(directory, definition, places(definition))
    assert "c_attn.lora_B.weight: is no adapter of this model" in str(refused.value)
    definition = lora.adapted(SMALL, config.Adapter(rank=4, targets=("qkv",)))
    with pytest.raises(AssetError, match=r"has shape \(2, 32\) of F32, here \(4, 32\)"):
        peft_files.load(directory, definition, places(definition))


def test_settings_beside_an_adapter_must_be_its_own(tmp_path: Path) -> None:
    _, settings = written(tmp_path)
    assert peft_files.decided(settings, SMALL).adapter.targets == ("^blocks/attention/qkv$",)
    same = dataclasses.replace(settings, adapter=dataclasses.replace(settings.adapter, rank=2, targets=("qkv",)))
    with pytest.raises(ConfigError, match=r"adapter.alpha=8.0, but .* has 16.0"):
        changed = dataclasses.replace(same.adapter, alpha=8.0)
        peft_files.decided(dataclasses.replace(same, adapter=changed), SMALL)
    assert peft_files.decided(same, SMALL) == same
    other = dataclasses.replace(settings, adapter=dataclasses.replace(same.adapter, rank=4, targets=("mlp",)))
    with pytest.raises(ConfigError, match=r"adapter.rank=4, but .* has 2(.|\n)*adapter.targets=.*mlp/down.*has .*qkv"):
        peft_files.decided(other, SMALL)


def test_directory_without_safetensors_is_refused_with_the_reason(tmp_path: Path) -> None:
    directory, settings = written(tmp_path)
    (directory / peft_files.WEIGHTS).rename(directory / "adapter_model.bin")
    with pytest.raises(AssetError, match=r"is not there .*never opened"):
        peft_files.decided(settings, SMALL)


def written(tmp_path: Path) -> tuple[Path, config.Config]:
    """An adapter of rank 2 on the fused product of SMALL, and settings that name it."""
    adapter = config.Adapter(rank=2, targets=("qkv",))
    definition = lora.adapted(SMALL, adapter)
    adapters = lora.initial(definition.abstract, jax.random.key(0))
    directory = exported(tmp_path / "adapter", definition, adapters, adapter)
    model = config.Model(architecture=GPT2, weights="base")
    return directory, dataclasses.replace(config.Config(), model=model, adapter=config.Adapter(weights=str(directory)))


def edit(directory: Path, changes: dict[str, Any]) -> None:
    path = directory / peft_files.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
