"""What a save of GPT-2 124M with AdamW costs the steps beside it, and where its own time goes; one JSON object.

    python scripts/bench/save_parts.py DIRECTORY [--rows 4] [--length 256] [--dtype float32] [--rounds 5]

`stall_secs` is what the call that begins a save takes of the training thread. `slower` is how much longer the steps
take that run while a save is under way: the copy that a step makes of the buffers a save still holds, and what writing,
flushing and hashing take of the same processors. `looking_secs` is the search for NaN, `hashing_secs` reading and
hashing all files from the page cache.
"""

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import model_step

from codex_jax import config
from codex_jax.checkpoint import finite, manifest, saving
from codex_jax.checkpoint.retention import Rules


APART_SECS = 3.0


def timed(work: Any) -> float:
    """Return the seconds of a call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Alternate steps without and with a save under way, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    shutil.rmtree(flags.directory, ignore_errors=True)
    settings = config.Config(
        model=config.Model(compute_dtype=flags.dtype),
        data=config.Data(sequence_length=flags.length),
        train=config.Train(global_batch_size=flags.rows),
    )
    step, acknowledged = model_step.Step(settings), list[float]()
    plain, beside, stalls, whole = [], [], [], []
    with saving.Checkpointer(flags.directory, Rules(1), lambda *_: acknowledged.append(time.perf_counter())) as saver:
        for number in range(flags.rounds + 1):
            # Until the save before has deleted its elder, which the next one would wait for.
            free = time.perf_counter() + APART_SECS
            while time.perf_counter() < free or len(plain) < 2 * (number + 1):
                plain.append(timed(step))
            begin = time.perf_counter()
            saver.save(step.num_done, step.state, {}, {})
            stalls.append(time.perf_counter() - begin)
            while len(acknowledged) <= number:
                beside.append(timed(step))
            whole.append(acknowledged[-1] - begin)
    directory = max(flags.directory.iterdir())
    looking = [timed(lambda: finite.Check(step.state).wrong()) for _ in range(3)]
    hashing = [timed(lambda: manifest.verify(directory)) for _ in range(3)]
    device = jax.devices()[0]
    result = {
        "jax": jax.__version__,
        "device": device.device_kind,
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(step.state)),
        "step_secs": statistics.median(plain[2:]),
        "step_secs_beside_a_save": statistics.median(beside),
        "stall_secs": statistics.median(stalls[1:]),
        "first_stall_secs": stalls[0],
        "until_acknowledged_secs": statistics.median(whole[1:]),
        "looking_secs": statistics.median(looking),
        "hashing_secs": statistics.median(hashing),
    }
    result["stall_share"] = result["stall_secs"] / result["step_secs"]
    result["slower"] = result["step_secs_beside_a_save"] / result["step_secs"]
    print(json.dumps(result, indent=2))
    shutil.rmtree(flags.directory)


if __name__ == "__main__":
    main()
