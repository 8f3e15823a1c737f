"""The commands of `claude-audit`, one file each: `configure(parser)` and `run(args)`."""
