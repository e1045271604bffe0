"""One run in several processes: how they meet, decide together, stop together, and hear of one that failed."""
