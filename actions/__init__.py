"""The built-in actions: one file an action, named after it, found through the entry-point group."""
