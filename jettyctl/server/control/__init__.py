"""The control plane: edge selection, duplicates and clones, sessions that any machine can go on with, tracking.

It never carries the bytes of an upload when it can sign a URL for them. The database is the record; Redis, where there
is one, holds copies for speed and may be emptied at any time.
"""
