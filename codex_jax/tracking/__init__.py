"""What a run leaves behind: the ledger of metrics and events, its copies for other tools, provenance and the report."""
