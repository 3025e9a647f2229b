"""Doors of the control plane: HTTP, gRPC and metrics."""
