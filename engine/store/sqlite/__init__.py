"""The store in one SQLite file: one writing thread, a few reading ones, versioned migrations."""
