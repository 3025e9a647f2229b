"""The control plane: which edge SFU serves the whole room best, and which links join the edges."""
