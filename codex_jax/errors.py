"""Every failure a user can meet, and the exit code it ends the process with.

CodexError
├── Found             1   a command that looks for something found it
├── ConfigError       2   wrong config or usage
├── AssetError        3   data, tokenizer, weights or checkpoint missing, damaged or refused
├── TrainingStopped   4   training stopped itself: non-finite loss, quarantine limit, no room, something hangs
└── Interrupted      75   a signal asked us to stop; the state is saved, run again to go on
"""


class CodexError(Exception):
    """Base of the errors whose message is written for the user; the traceback adds nothing to it."""

    exit_code = 1


class Found(CodexError):
    """A command was asked to look for something, and there is some: no failure, but an answer to a script."""

    exit_code = 1


class ConfigError(CodexError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class AssetError(CodexError):
    """Data, a tokenizer, weights or a checkpoint is missing, damaged or refused."""

    exit_code = 3


class TrainingStopped(CodexError):
    """Training decided that going on would do harm."""

    exit_code = 4


class Interrupted(CodexError):
    """SIGTERM or SIGINT arrived; everything up to the last step is saved."""

    exit_code = 75
