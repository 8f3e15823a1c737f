"""Questions to both tiers at once, by fields and by text."""
