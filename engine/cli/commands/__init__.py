"""The commands: one file each, found by name in ``engine.cli.main``."""
