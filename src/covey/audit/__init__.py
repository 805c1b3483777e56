"""Recomputing what was claimed, with the same pure parts that trained it."""
