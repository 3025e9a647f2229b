"""Use cases: load, decide, compare-and-set, then effects. They see the outside through ports.py."""
