"""The embedding model, built once for all test runs of a user: it takes seconds.

`share_model(home)` lets settings with a home of their own find it there.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from audit_storage.index.minilm import MiniLM, find_model

MODELS: Final = Path(tempfile.gettempdir()) / f"claude-max-audit-tests-{os.getuid()}" / "models"


@cache
def shared_minilm() -> MiniLM:
    """Return the process's one embedder, loaded."""
    embedder = MiniLM(find_model(None), MODELS)
    embedder.embed(["load"])
    return embedder


def share_model(home: Path) -> None:
    """Make the model that is already built the one of this home."""
    shared_minilm()
    home.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(MODELS, target_is_directory=True)
