"""Every place in the source that can delete something, and why no entry under a hold goes by it.

A new one fails here until somebody writes down why it is safe.
"""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "ingest/claude_max_audit",
    "storage/audit_storage",
    "quality/audit_quality",
    "flows/audit_flows",
)
CALLS = {
    # files and folders
    "unlink", "rmtree", "rmdir", "removedirs", "remove_file", "delete_file", "delete_dir",
    "truncate",
    # tables
    "vacuum", "vacuum_now", "delete_rows", "remove_action", "cleanup_metadata", "compact",
    "compact_month", "execute_purge", "optimize", "restore", "overwrite",
    # Redis, Chroma, indexes
    "forget", "drop", "drop_month", "prune", "prune_day", "release", "release_day", "expire",
    "expireat", "flushdb", "flushall", "delete", "erase", "delete_collection", "zremrangebyscore",
}  # fmt: skip
WORDS = (
    "UNLINK", "DEL", "EXPIRE", "EXPIREAT", "PEXPIREAT", "GETDEL", "FLUSHALL", "FLUSHDB", "ZREM",
    "ZREMRANGEBYSCORE", "ZREMRANGEBYRANK", "DELETE FROM", "DROP TABLE", "VACUUM",
)  # fmt: skip

ASKS = "asks the hold book itself, and a hold that comes meanwhile refuses its commit"
CALLS_ONE = "calls a path that asks the hold book itself"
SAME_ROWS = "the same rows are in the files that take their place, proved before the commit"
VIEW = "a view of the lake, which keeps the entry; it is made anew from the lake"
IN_LAKE = "only entries that were read back from the lake, which is what a hold protects"
GONE = "takes ids out of indexes whose entries are gone already"
NO_LAKE = "expiry at the time of writing only where there is no lake, and so no hold"
SPOOL = "a write-ahead log: deletes what a store has answered for, or what nobody confirmed"
NOT_AN_ENTRY = "no copy of an entry: locks, sockets, half-written files, the log's own old files"

REASONS = {
    # The record.
    "lake/lake.py:Lake.vacuum_now: *": ASKS,
    "lake/lake.py:Lake._drop_from_files: remove_file": ASKS,
    "lake/vacuum.py:vacuum: *": ASKS,
    "purge/purge.py:_Removal.stage: remove_file": ASKS,
    "purge/purge.py:_forget_in_views: *": ASKS,
    "purge/purge.py:execute_purge: vacuum_now": ASKS,
    "purge/purge.py:execute_purge: erase": ASKS,
    "cold_tier.py:StoredTrail.purge: execute_purge": CALLS_ONE,
    "retention_purge.py:purge_due: execute_purge": CALLS_ONE,
    "lake/lake.py:Lake.compact_month: remove_file": SAME_ROWS,
    "lake/log_erasure.py:erase_log: delete_file": "the log of versions that are gone, no rows",
    "lake/delta_log.py:DeltaLog.delete: delete": CALLS_ONE + ", which is the quarantine's alone",
    "lake/delta_log.py:DeltaLog.vacuum: vacuum": CALLS_ONE + ", which is the quarantine's alone",
    "archive/quarantine.py:Quarantine.erase: *": "called by the purge alone, for what is not held",
    "lake/compaction.py:_compact: compact_month": SAME_ROWS,
    "lake/compaction.py:compact_closed_months: vacuum_now": CALLS_ONE,
    "lake/transaction.py:LakeTransaction.commit: remove_action": SAME_ROWS + "; or the purge's",
    "lake/delta_log.py:DeltaLog.tidy: *": "joins files of the small tables, never of the entries",
    "lake/lookup.py:Lookup.remove_all_but: delete_file": VIEW,
    "lake/staged_file.py:*.discard: delete_file": "a file for a commit that was not made",
    "lake/commit_probe.py:_remove: delete_file": "the trial's own table, beside the lake's",
    # Redis.
    "archive/archive.py:_release: release_day": IN_LAKE,
    "hot/store.py:HotStore.release_day: release": IN_LAKE,
    "hot/release.py:HotRelease.release: *": IN_LAKE,
    "hot/release.py:_expiries: *": "part of HotRelease.release",
    "hot/batch.py:BatchPacker._expire*": NO_LAKE,
    "hot/store.py:HotStore.forget: forget": "called by the purge alone, for what is not held",
    "hot/prune.py:HotPruner._forget*": "called by the purge and the release alone",
    "archive/archive.py:archive_closed_days: prune": GONE,
    "hot/store.py:HotStore.prune: prune": GONE,
    "hot/store.py:HotStore._view: prune": GONE,
    "hot/store.py:HotStore.page: prune_day": GONE,
    "hot/prune.py:HotPruner.prune: *": GONE,
    "hot/prune.py:HotPruner.forget_agents: ZREM": "names of agents without entries, and no entry",
    "hot/prune.py:HotPruner._take_out: ZREM": GONE,
    "hot/prune.py:HotPruner._close.decide: *": GONE,
    "hot/prune.py:HotPruner._prune_kinds.decide: ZREM": GONE,
    "hot/prune.py:_intersections: ZREM": GONE,
    "hot/prune.py:_removals: ZREM": "part of HotPruner.forget",
    "hot/link.py:RedisLink.give_back: release": NOT_AN_ENTRY,
    # The indexes.
    "index/index.py:EntryIndex.*": VIEW,
    "index/word_index.py:WordIndex.*": VIEW,
    "index/word_table.py:WordTable.forget: *": VIEW,
    "index/semantic_index.py:_remove: rmtree": VIEW,
    "reindex.py:index_month: drop_month": VIEW,
    "index/minilm.py:MiniLM._build: unlink": NOT_AN_ENTRY,
    # What lies beside the stores.
    "spool/adoption.py:*": SPOOL,
    "spool/folder.py:*": SPOOL,
    "spool/room.py:*": SPOOL,
    "spool/segment.py:*": SPOOL,
    "spool/spool.py:*": SPOOL,
    "atomic_file.py:*": NOT_AN_ENTRY,
    "export/export.py:_write: unlink": "the manifest of an export that is being replaced",
    "demo/home.py:make_home: rmtree": "the demo's own home, made by the demo",
    "embedded_redis.py:EmbeddedRedis._publish_socket: unlink": NOT_AN_ENTRY,
    "process_life.py:_release_in_parent: release": NOT_AN_ENTRY,
    "supervisor/*": NOT_AN_ENTRY,
}
"""Path and function to why no entry under a hold goes by it; `*` where a whole class or file is
of one kind."""


class Finder(ast.NodeVisitor):
    """Collects "path:function: what" for every deleting call, command or statement."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.within: list[str] = []
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node)

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in CALLS and not self._of_a_lock(called):
            self._add(name)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        if isinstance(text, str):
            for word in WORDS:
                if text == word or ((" " in word or "\r" in text) and word in text):
                    self._add(word)

    def _of_a_lock(self, called: ast.expr) -> bool:
        return isinstance(called, ast.Attribute) and "lock" in ast.unparse(called.value).lower()

    def _add(self, what: str) -> None:
        self.found.add(f"{self.name}:{'.'.join(self.within)}: {what}")


def deleting_paths() -> set[str]:
    found: set[str] = set()
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            finder = Finder(str(source.relative_to(ROOT / package)))
            finder.visit(ast.parse(source.read_text()))
            found |= finder.found
    return found


def test_every_path_that_deletes_is_known() -> None:
    unknown = [
        path for path in sorted(deleting_paths()) if not any(fnmatch(path, one) for one in REASONS)
    ]
    assert unknown == [], "say in REASONS why no entry under a legal hold goes by these"


def test_no_path_is_listed_that_is_gone() -> None:
    found = deleting_paths()
    assert [one for one in REASONS if not any(fnmatch(path, one) for path in found)] == []


def test_the_finder_finds_each_kind() -> None:
    finder = Finder("made.py")
    finder.visit(
        ast.parse(
            "def one(path, link, db):\n"
            "    path.unlink()\n"
            "    link.ask([('UNLINK', 'audit:entry:1')])\n"
            "    db.execute('DELETE FROM entries')\n"
            "    lock.release()\n"
        )
    )
    assert finder.found == {f"made.py:one: {what}" for what in ("unlink", "UNLINK", "DELETE FROM")}
