"""Nouns that every package uses (event, document, truth, errors, positions), and tools without I/O.

Imports nothing of the engine, keeps no state but caches, and never logs.
"""
