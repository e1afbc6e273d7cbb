"""Log lines, metrics, traces, and the delay of the event loop.

Implements ``worker.observer``; nothing below imports it.
"""
