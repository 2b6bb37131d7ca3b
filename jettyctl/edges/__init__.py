"""Edges: which ones the user named, how they are doing, and which of them carry an upload."""
