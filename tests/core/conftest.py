"""How hypothesis runs here."""

from hypothesis import settings

# How long things take is for benchmarks to say: a busy machine must not fail a test of what is true.
settings.register_profile("core", deadline=None)
settings.load_profile("core")
