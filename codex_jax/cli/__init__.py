"""The command `codex-jax NOUN VERB`: one file a noun, whatever is slow to import inside the commands."""
