"""A store by an Apache Beam pipeline: the same shards by the same function, on as many machines as a runner has.

    python -m codex_jax.data.beam --config configs/gpt2.py:124m --config.data.store=/shared/store [BEAM OPTIONS]

Workers must see the files and the store under the same paths as this process. A runner may run a shard twice, or on
two machines at once: `build_shard` writes it whole or not at all, and the same bytes each time.
"""

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from codex_jax import config, exits, overrides
from codex_jax.data import build, pipeline, shard, stores
from codex_jax.data.plan import Plan
from codex_jax.data.store import Store
from codex_jax.errors import AssetError
from codex_jax.safety import bypass, gate


def run(settings: config.Config, options: Sequence[str]) -> list[Store]:
    """Build the stores of these settings with a runner of Beam, and return them; errors are those of `build.build`."""
    guard = gate.of(settings.safety)
    bypass.announce(guard.bypass)
    mixture = pipeline.open_mixture(settings.data, guard)
    tokenizer = pipeline.make_tokenizer(settings, mixture)
    make = functools.partial(by_runner, options=options)
    plans = [(part, stores.plan_of(settings, part, tokenizer)) for part in mixture]
    return [build.build(made, stores.directory_of(settings, part, made), make, lambda: None) for part, made in plans]


def by_runner(plan: Plan, directory: Path, options: Sequence[str]) -> Iterator[shard.Facts]:
    """Make every shard that is missing, then yield the facts of all in their order."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline(options=PipelineOptions(list(options))) as work:
        numbers = work | "Numbers" >> beam.Create(range(plan.total))
        _ = numbers | "Spread" >> beam.Reshuffle() | "Shards" >> beam.Map(functools.partial(_make, plan, directory))
    for number in range(plan.total):
        facts = shard.read_facts(shard.directory_of(directory, number))
        if facts is None:
            raise AssetError(
                f"no worker left shard {number} in {directory}: it must be a directory that all of them see"
            )
        yield facts


def _make(plan: Plan, directory: Path, number: int) -> None:
    shard.build_shard(plan, number, directory)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="codex_jax.data.beam", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE[:SIZE]")
    flags, rest = parser.parse_known_args(arguments)
    ours = [argument for argument in rest if argument.startswith("--config.")]
    options = [argument for argument in rest if not argument.startswith("--config.")]

    def work() -> None:
        pairs = overrides.parse(ours, ("--config",))
        run(overrides.load(flags.config, [*pairs, ("data.mode", "store")])[0], options)

    return exits.guarded(work, debug=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
