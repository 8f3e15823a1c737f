"""What `claude-audit up` keeps running on one machine, and how it is found, mended and ended."""
