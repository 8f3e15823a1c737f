"""Every claim of the lake, computed anew from its stored bytes."""
