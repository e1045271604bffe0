"""Checkpoints that are complete and verified, or are none."""
