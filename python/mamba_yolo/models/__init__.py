"""Network: plain modules, architecture only."""
