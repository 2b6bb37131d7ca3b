"""The S3 store: `client` speaks the operations, `wire` reads replies, `http` moves bytes, `sign` and `credentials` vouch."""
