"""What moves media on a node, behind one protocol."""
