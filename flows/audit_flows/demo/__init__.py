"""The demonstration: the whole trail on one input, every number read back from the stores."""
