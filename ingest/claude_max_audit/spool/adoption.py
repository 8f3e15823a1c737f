"""Adoption: a living process carries what a dead one left in its spool, in order, once.

A dead writer's folder is known by its free lock. Its entries go to the same store by the
same idempotent batches, so an adopter that dies too is followed by another. A segment with
bytes that do not fit is read as far as it can be, then set aside and reported.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from claude_max_audit.sink import Sink
from claude_max_audit.spool.folder import (
    adopt_folder,
    remove_folder,
    segments_in,
    set_aside,
    writer_folders,
)
from claude_max_audit.spool.segment import Unfit, read_frames

_log = logging.getLogger("claude_max_audit")


def adopt_dead_writers(directory: Path, sink: Sink) -> int:
    """Carry every dead writer's entries to `sink`; returns how many.

    Raises what the sink raises; what was not carried then stays for the next try.
    """
    carried = 0
    for folder in writer_folders(directory):
        lock_fd = adopt_folder(folder)
        if lock_fd is None:
            continue
        try:
            for segment in segments_in(folder):
                carried += _carry_segment(segment, sink)
            remove_folder(folder)
        finally:
            os.close(lock_fd)
    if carried:
        _log.info("carried %d entries from the spools of processes that ended", carried)
    return carried


def _carry_segment(segment: Path, sink: Sink) -> int:
    """Carry one segment and remove it, or set it aside when part of it does not fit."""
    batch: list[bytes] = []
    carried = 0
    unfit: Unfit | None = None
    for frame in read_frames(segment):
        if isinstance(frame, Unfit):
            unfit = frame
            continue
        batch.append(frame)
        if len(batch) >= sink.best_batch:
            sink.write(batch)
            carried += len(batch)
            batch = []
    if batch:
        sink.write(batch)
        carried += len(batch)
    # Killed here: the segment is carried again by the next adopter, which changes nothing.
    if unfit is None:
        segment.unlink()
    else:
        place = set_aside(segment)
        _log.error("spool segment %s, kept as %s: %s", segment.name, place, unfit.reason)
    return carried
