"""Processes accepted events: evaluates them, attempts their deliveries, and settles each in the store.

``destinations`` decides when a delivery may start. Observers are called at each step; none is known by name.
"""
