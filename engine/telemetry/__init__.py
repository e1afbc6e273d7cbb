"""Log lines, metrics, traces and the delay of the event loop: what an engine tells about itself.

Implements ``worker.observer``; nothing below imports it.
"""
