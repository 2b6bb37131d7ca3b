"""The network: HTTP over sockets of our own, and what certificates are verified by."""
