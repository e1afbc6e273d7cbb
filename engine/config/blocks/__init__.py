"""The blocks of the configuration file: one module each."""
