"""The most memory that this process has held, as the system counts it.

Called by the benches that give a bound on memory; each measures in a process of its own, since
`getrusage` of a new process still tells its parent's peak.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Return the peak of the resident memory since the program began, in MiB."""
    if _STATUS.exists():  # Linux: proc(5)
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere: getrusage(2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2
