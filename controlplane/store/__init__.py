"""State behind one protocol: base.py says what each method guarantees."""
