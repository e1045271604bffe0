"""Copies of the ledger for other tools, one file each."""
