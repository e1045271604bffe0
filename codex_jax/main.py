"""The entry of training: flags to settings, then `train.train`; every failure ends in one message and its exit code."""

import argparse
import faulthandler
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from codex_jax import console, exits
from codex_jax.errors import ConfigError
from codex_jax.signals import StopRequest


USAGE = """python -m codex_jax.main --config=FILE.py[:SIZE][,key=value] [--config.section.key=value ...]
                                [--workdir=DIR] [--debug]"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code (0, 2, 3, 4 or 75; see `errors`)."""
    stop = StopRequest()
    console.prepare()
    flags, rest = _parser().parse_known_args(argv)
    if flags.debug:
        faulthandler.enable()  # what the watchdog asks, too
    return exits.guarded(lambda: _run(flags, rest, stop), debug=flags.debug)


def _run(flags: argparse.Namespace, rest: Sequence[str], stop: StopRequest) -> None:
    if flags.list_keys:
        from codex_jax import keys

        console.say(keys.listing())
        return
    if not flags.config:
        raise ConfigError(f"name a configuration, for example --config=configs/gpt2.py:tiny\nusage: {USAGE}")
    # Here and below, imports that take long: until the signals are caught, Ctrl-C ends in a traceback.
    from codex_jax import overrides

    settings, origin = overrides.load(flags.config, overrides.parse(rest, ("--config", "--workdir", "--debug")))
    workdir = Path(flags.workdir or _default_workdir(flags.config))
    _ask_for_determinism()
    stop.raise_if_asked("before anything was begun")
    from codex_jax import train  # after the settings are known to be right: it imports jax, which takes a second

    train.train(settings, origin, workdir, stop)


def _ask_for_determinism() -> None:
    # Without it a GPU adds up in another order each time, and no run could be repeated. Read when jax is first used.
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codex_jax",
        usage=USAGE,
        description="Train a language model. Run the same command again to resume.",
        epilog="Exit codes: 0 done, 2 wrong config, 3 asset missing or damaged, 4 training stopped, 75 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a file of configs/, with an optional size: configs/gpt2.py:tiny"
    )
    parser.add_argument("--workdir", metavar="DIR", help="directory of the run (default: runs/ and the config's name)")
    parser.add_argument(
        "--list-keys", action="store_true", help="print every key with its default, meaning and range, and exit"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


def _default_workdir(spec: str) -> str:
    from codex_jax import overrides

    path, argument, _ = overrides.split(spec)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", argument)
    return "runs/" + "-".join(part for part in (path.stem, name) if part)


if __name__ == "__main__":
    exits.end(main(sys.argv[1:]))
