"""The index of words and meaning: a view of the lake that can always be made anew."""
