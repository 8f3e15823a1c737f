"""Adoption: a living process carries what a dead one left in its spool, in order, once.

A dead writer's folder is known by its free lock. Its entries go to the same store by the
same idempotent batches, so an adopter that dies too is followed by another. What the store
answered for stays a few seconds more, and goes again if the store lost it meanwhile. A
segment with bytes that do not fit is read as far as it can be, then set aside and reported.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

from claude_max_audit.errors import RedisBehindError
from claude_max_audit.sink import Sink
from claude_max_audit.spool.folder import (
    adopt_folder,
    is_settled,
    remove_folder,
    remove_husk,
    remove_unborn,
    rests,
    segments_in,
    set_aside,
    settle_file,
    writer_folders,
)
from claude_max_audit.spool.kept import LOSS_SECONDS
from claude_max_audit.spool.segment import DONE_SUFFIX, Unfit, number_of, read_frames

_log = logging.getLogger("claude_max_audit")


class Adopted(NamedTuple):
    """How many entries were carried, and whether dead writers' folders remain for a while."""

    carried: int
    remains: bool


def adopt_dead_writers(directory: Path, sink: Sink) -> Adopted:
    """Carry every dead writer's entries to `sink`.

    Raises what the sink raises; what was not carried then stays for the next try. A folder
    that cannot be read is reported and left alone.
    """
    carried, remains = 0, False
    remove_unborn(directory)
    for folder in writer_folders(directory):
        try:
            if rests(folder, LOSS_SECONDS):
                remains = True
                continue
            lock_fd = adopt_folder(folder)
            if lock_fd is None:
                remove_husk(folder)
                continue
            try:
                carried += _carry_folder(folder, sink)
                remains = remains or folder.exists()
            except RedisBehindError as lost:
                _log.warning("%s (%s is carried again)", lost, folder)
                remains = True
            finally:
                os.close(lock_fd)
        except FileNotFoundError:
            continue  # Carried and removed by another process meanwhile.
        except OSError as failure:
            _log.warning("the spool folder %s cannot be adopted: %s", folder, failure)
    if carried:
        _log.info("carried %d entries from the spools of processes that ended", carried)
    return Adopted(carried, remains)


def _carry_folder(folder: Path, sink: Sink) -> int:
    """Carry what the store lacks; remove what it can no longer lose."""
    held = sink.held_of(folder.name)
    carried, after = 0, held or 0
    for segment in segments_in(folder):
        count, after = _carry_segment(segment, sink, held, after)
        carried += count
    for segment in segments_in(folder):
        if held is None or is_settled(segment, LOSS_SECONDS):
            segment.unlink()
    remove_folder(folder)
    return carried


def _carry_segment(segment: Path, sink: Sink, held: int | None, after: int) -> tuple[int, int]:
    """Carry one segment unless the store still has it; set it aside if part does not fit.

    The store holds all up to the number `after`. Returns how many entries were carried, and
    up to which number it holds all then.
    """
    payloads: list[bytes] = []
    unfit: Unfit | None = None
    for frame in read_frames(segment):
        if isinstance(frame, Unfit):
            unfit = frame
        else:
            payloads.append(frame)
    answered = segment.suffix == DONE_SUFFIX
    if answered and (held is None or not payloads or number_of(payloads[-1]) <= held):
        return 0, after
    for start in range(0, len(payloads), sink.best_batch):
        batch = payloads[start : start + sink.best_batch]
        sink.write(batch, after)
        after = number_of(batch[-1])
    # Killed here: the segment is carried again by the next adopter, which changes nothing.
    if unfit is None:
        settle_file(segment)
    else:
        place = set_aside(segment)
        _log.error("spool segment %s, kept as %s: %s", segment.name, place, unfit.reason)
    return len(payloads), after
