"""Doors of a node: WHIP and WHEP, health, metrics, and the session with the control plane."""
