"""The edge SFU process: media engine, trunks to other edges, and the agent that speaks for the node."""
