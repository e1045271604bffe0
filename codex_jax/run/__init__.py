"""One run: how far it has come, what it is made of, and the way of its state."""
