"""Measurements of the engine beside other servers, every party a process of its own: ``make bench``."""
