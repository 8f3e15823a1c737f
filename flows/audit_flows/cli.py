"""`claude-audit`: finds the command's module, runs it, and turns failures into one clear line.

Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted. Only the module of the command
that was asked for is imported, so that help is there at once. Does none of the work itself.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from audit_flows.usage import USED_WRONGLY, CommandParser, UsageError, add_place_options
from claude_max_audit.errors import AuditError

PROGRAM = "claude-audit"
FAILED, INTERRUPTED = 1, 130


class Command(NamedTuple):
    """Where a command's module is, and the line that tells of it."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("demo", "see everything work, on your transcripts or a generated swarm"),
    "up": Command("up", "start everything that one machine needs, with a UI; Ctrl-C ends it"),
    "down": Command("down", "end what `up` started here"),
    "import": Command("import_", "read transcripts or event files into the trail"),
    "log": Command("log", "log one entry: message, access, decision, security or metric"),
    "search": Command("search", "find entries by agent, swarm, severity, time or meaning"),
    "show": Command("show", "show one entry in full, with its hashes checked"),
    "export": Command("export", "write what fits to one file: jsonl, json, csv or parquet"),
    "status": Command("status", "what is where, what waits, when each job ran last"),
    "watch": Command("watch", "stores, jobs, alerts and newest entries, live in the terminal"),
    "history": Command("history", "what each job did, and the last days at a glance"),
    "metrics": Command("metrics", "the trail's figures at this moment, or for Prometheus"),
    "archive": Command("archive", "bring every closed day from Redis to the lake"),
    "quality": Command("quality", "check archived days with Great Expectations"),
    "verify": Command("verify", "compute every hash of the lake anew: is it whole?"),
    "reconcile": Command("reconcile", "compare Redis, lake and index, and name what differs"),
    "purge": Command("purge", "show, or remove, what is past its retention"),
    "hold": Command("hold", "legal holds: place, list, show, release"),
    "policy": Command("policy", "check the retention policy, and see what it says"),
    "quarantine": Command("quarantine", "list what could not be archived, with the reason"),
    "reindex": Command("reindex", "bring the index of words and meaning up to the lake"),
    "deploy": Command("deploy", "deployments and automations onto a Prefect server"),
    "redis": Command("redis", "start, stop or locate the embedded Redis"),
}
"""Every command, in the order of the help."""

EXAMPLES = """\
examples:
  claude-audit demo                                  see everything work, in .demo
  claude-audit import ~/.claude/projects             take in Claude Code transcripts
  claude-audit search --agent human --since 7d       what one agent did this week
  claude-audit search --text "failed authorization"  find by meaning and by words
  claude-audit export --swarm research --format csv  one file, with its manifest
  claude-audit verify                                is the trail whole?

Each command explains itself: claude-audit search --help
"""


class CommandModule(Protocol):
    """What a module in `commands` offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments, description and examples."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    head = _up_to_command(given)
    overall_parser = _overall_parser()
    overall = overall_parser.parse_args(head)
    if overall.version:
        return _tell_version()
    if overall.command is None:
        overall_parser.print_help()
        return 0
    command = COMMANDS.get(overall.command)
    if command is None:
        return _tell(_unknown(overall.command), USED_WRONGLY)
    module = cast(CommandModule, import_module(f"audit_flows.commands.{command.module}"))
    parser = _command_parser(overall.command, command, module)
    return _guarded(module, parser.parse_args(given[len(head) :], overall))


def _up_to_command(args: Sequence[str]) -> list[str]:
    """Return the arguments through the command's name: what follows belongs to the command."""
    at = 0
    while at < len(args) and args[at].startswith("-"):
        at += 2 if args[at] in ("--home", "--redis-url", "--lake") else 1
    return list(args[: at + 1])


def _overall_parser() -> argparse.ArgumentParser:
    width = max(len(name) for name in COMMANDS)
    listed = "\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items())
    parser = CommandParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] command [arguments]",
        description="The audit trail of multi-agent Claude swarms.",
        epilog=f"commands:\n{listed}\n\n{EXAMPLES}",
    )
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    add_place_options(parser, default=None)
    return parser


def _command_parser(
    name: str, command: Command, module: CommandModule
) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=f"{PROGRAM} {name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
    )
    module.configure(parser)
    add_place_options(parser, default=argparse.SUPPRESS)
    return parser


def _guarded(module: CommandModule, args: argparse.Namespace) -> int:
    """Run the command; an expected failure becomes one line on stderr and a code."""
    _log_to_stderr()
    try:
        code = module.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _tell("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Who read our output has gone (`| head`); keep the interpreter's own flush quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageError as wrong:
        return _tell(str(wrong), USED_WRONGLY)
    except KeyError as unknown:
        return _tell(str(unknown.args[0]) if unknown.args else "not found", FAILED)
    except OSError as failed:
        return _tell(_without_number(failed), FAILED)
    except (AuditError, ValueError, TypeError) as failed:
        return _tell(str(failed) or type(failed).__name__, FAILED)


def _log_to_stderr() -> None:
    """Show warnings. The level is the handler's: Prefect's loggers take no notice of the root's."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler])


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COMMANDS)}."
    return f"unknown command {name!r}; {hint} See {PROGRAM} --help"


def _without_number(failed: OSError) -> str:
    """What the system said, as a person reads it: no errno, the file after a colon."""
    words = failed.strerror or str(failed) or type(failed).__name__
    return words if failed.filename is None else f"{words}: {failed.filename}"


def _tell(message: str, code: int) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return code


def _tell_version() -> int:
    from importlib.metadata import version

    print(f"{PROGRAM} {version('claude-max-audit')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
