"""Local bytes: opening, reading, hashing, and the memory of hashes."""
