"""The HTTP API: one handler file per resource."""
