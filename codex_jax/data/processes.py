"""How a process that does a part of the work behaves: one core, deaf to signals, never without its parent."""

import multiprocessing
import os
import signal
import threading


def begin() -> None:
    """Keep the tokenizer of one process among several to its own core, leave signals to the parent, and end with it.

    A terminal sends Ctrl-C to all of them, a cluster SIGTERM: what is in preparation must still arrive. That the parent
    was killed no queue would tell.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
