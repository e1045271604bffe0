"""BERT (Devlin et al. 2018) and what was made from it: MiniLM, sentence encoders, classifiers of text."""

from codex_jax.models import classes
from codex_jax.models.architecture import Architecture, Kind
from codex_jax.models.encoder import Encoder
from codex_jax.models.families.family import MOST_LAYERS, Family, Weight, dense
from codex_jax.models.published import Published


# What a checkpoint ends in, and what `architectures` of its config.json say then.
ENDINGS = {"hidden": "BertForMaskedLM", "classes": "BertForSequenceClassification", "pooled": "BertModel"}
_ENDING_OF = {word: ending for ending, word in ENDINGS.items()} | {"BertForPreTraining": "hidden"}


def read(config: Published) -> Architecture:
    """Return the architecture of a config.json; without `architectures` it ends in the logits of hidden tokens."""
    width, heads = config.count("hidden_size"), config.count("num_attention_heads")
    if width % heads:
        raise config.wrong("hidden_size", f"a multiple of num_attention_heads={heads}")
    config.refuse("position_embedding_type", "absolute")
    for name in ("is_decoder", "add_cross_attention"):
        config.refuse(name, False)
    ending = (config.words("architectures", _ENDING_OF, 1) or ("hidden",))[0]
    stddev = config.number("initializer_range", 0.02)
    return Architecture(
        vocab_size=config.count("vocab_size"),
        context_length=config.count("max_position_embeddings"),
        width=width,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=width // heads,
        mlp_width=config.count("intermediate_size"),
        layers=(Kind(),) * config.count("num_hidden_layers", high=MOST_LAYERS),
        norm="layer",
        norm_epsilon=config.number("layer_norm_eps", 1e-12),
        activation=config.choice("hidden_act", _ACTIVATIONS, "gelu"),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        query_scale=(width // heads) ** -0.5,
        tied=config.flag("tie_word_embeddings", True) or ending != "hidden",  # of a head that others have not
        init_stddev=stddev,
        residual_stddev=stddev,
        position_stddev=stddev,
        token_types=config.count("type_vocab_size", 2),
        ending=ending,
        num_labels=len(classes.names(config)) if ending == "classes" else 0,
    )


_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}


def weights(shape: Architecture) -> list[Weight]:
    """Return the table of weights."""
    block = "bert.encoder.layer.{layer}"
    rows = [
        Weight("tokens/embedding", "bert.embeddings.word_embeddings.weight"),
        Weight("positions/embedding", "bert.embeddings.position_embeddings.weight"),
        Weight("types/embedding", "bert.embeddings.token_type_embeddings.weight"),
        *_norm("embedding_norm", "bert.embeddings.LayerNorm"),
        *dense("blocks/attention/query", f"{block}.attention.self.query", bias=True),
        *dense("blocks/attention/key", f"{block}.attention.self.key", bias=True),
        *dense("blocks/attention/value", f"{block}.attention.self.value", bias=True),
        *dense("blocks/attention/out", f"{block}.attention.output.dense", bias=True),
        *_norm("blocks/attention_norm", f"{block}.attention.output.LayerNorm"),
        *dense("blocks/mlp/up", f"{block}.intermediate.dense", bias=True),
        *dense("blocks/mlp/down", f"{block}.output.dense", bias=True),
        *_norm("blocks/mlp_norm", f"{block}.output.LayerNorm"),
    ]
    if shape.ending == "hidden":
        rows += [
            *dense("transform", "cls.predictions.transform.dense", bias=True),
            *_norm("transform_norm", "cls.predictions.transform.LayerNorm"),
        ]
        if shape.tied:
            rows.append(Weight("head_bias/bias", "cls.predictions.bias"))
        else:
            rows.append(Weight("lm_head/embedding", "cls.predictions.decoder.weight"))
            rows.append(Weight("head_bias/bias", "cls.predictions.decoder.bias"))
    if shape.ending in ("pooled", "classes"):
        rows += dense("pooler", "bert.pooler.dense", bias=True)
    if shape.ending == "classes":
        rows += dense("classifier", "classifier", bias=True)
    return rows


def _norm(leaf: str, name: str) -> list[Weight]:
    return [Weight(f"{leaf}/scale", f"{name}.weight"), Weight(f"{leaf}/bias", f"{name}.bias")]


FAMILY = Family(
    name="bert",
    read=read,
    sizes={
        "vocab_size": "vocab_size",
        "context_length": "max_position_embeddings",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "width": "hidden_size",
        "mlp_width": "intermediate_size",
    },
    weights=weights,
    prefix="bert.",
    # Endings that this architecture has not, and what repeats others.
    ignored=(r"(^|\.)embeddings\.position_ids$", r"^cls\.", r"^(bert\.)?pooler\.", r"^classifier\."),
    network="BertForMaskedLM",
    endings=ENDINGS,
    make=Encoder,
)
