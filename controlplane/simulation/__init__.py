"""Replaying joins through the same core with a virtual clock: what a topology would have done to real calls."""
