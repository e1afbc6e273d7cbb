"""YAML text → plain data by the 1.2 core schema, with the position of every piece."""
