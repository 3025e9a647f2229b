"""The state of all replicas in Redis, followed by each: store.py says how it works."""
