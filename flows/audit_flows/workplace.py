"""Where one command works: its settings, its Redis, its auditor, its terminal.

Nothing is started before it is asked for. While a workplace is open, its settings stand in
the process's environment, so that flows and their own processes see the same trail; closing
it puts the environment back. An embedded Redis that a command started stays up for the next
one and for the agents of this machine; `claude-audit redis stop` ends it.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from functools import cached_property
from getpass import getuser
from types import TracebackType
from typing import TYPE_CHECKING

from audit_flows.embedded_redis import EmbeddedRedis
from audit_flows.terminal import Terminal
from claude_max_audit import ClaudeMaxAuditor
from claude_max_audit.hot.store import HotStore
from claude_max_audit.settings import ENVIRONMENT, Settings, load_settings

if TYPE_CHECKING:
    from audit_storage.lake.lake import Lake

FLUSH_SECONDS = 120.0
"""How long a command waits for its own entries to reach Redis before it says they wait."""


class Workplace:
    """Open it with `with`; see the module."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        self.settings = settings
        self.terminal = terminal
        self._before = {name: os.environ.get(name) for name in ENVIRONMENT.values()}
        self._open = ExitStack()

    @classmethod
    def of(cls, args: argparse.Namespace) -> Workplace:
        """Return the workplace that the command line's options and the environment name."""
        settings = load_settings(home=args.home, redis_url=args.redis_url, lake_uri=args.lake)
        return cls(settings, Terminal(as_json=getattr(args, "json", False)))

    @cached_property
    def embedded(self) -> EmbeddedRedis:
        """The embedded Redis of this home, running or not."""
        return EmbeddedRedis(self.settings.redis_dir)

    @cached_property
    def redis_url(self) -> str:
        """The Redis to use; an embedded one is started when no other is named."""
        if self.settings.redis_url is None:
            self.embedded.start()
            os.environ[ENVIRONMENT["redis_url"]] = self.embedded.url
            return self.embedded.url
        return self.settings.redis_url

    @cached_property
    def auditor(self) -> ClaudeMaxAuditor:
        """The trail's auditor, closed with the workplace. It reads the published settings."""
        auditor = ClaudeMaxAuditor(redis_url=self.redis_url)
        self._open.callback(auditor.sync.close)
        return auditor

    @cached_property
    def idle_auditor(self) -> ClaudeMaxAuditor:
        """An auditor for looking only: where no Redis runs, none is started."""
        auditor = ClaudeMaxAuditor(redis_url=self.settings.redis_url or self.embedded.url)
        self._open.callback(auditor.sync.close)
        return auditor

    @cached_property
    def hot(self) -> HotStore:
        """Redis itself, past the auditor: to read back what is there."""
        hot = HotStore.connect(
            self.redis_url, hot_days=self.settings.hot_storage_days, keeps_until_archived=True
        )
        self._open.callback(hot.close)
        return hot

    @cached_property
    def lake(self) -> Lake:
        """The lake itself. Heavy to import, so it is opened at first use only."""
        from audit_storage.lake.lake import Lake

        return Lake(self.settings)

    def __enter__(self) -> Workplace:
        os.environ.update(self.settings.as_environment())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._open.close()
        for variable, value in self._before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def system_user() -> str:
    """Return the name of the system's user, "" where it has none, as in some containers."""
    try:
        return getuser()
    except (KeyError, OSError):
        return ""
