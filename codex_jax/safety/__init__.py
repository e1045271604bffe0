"""What must not reach a model, a log or a file."""
