"""An accepted event to its end: evaluate it, make its deliveries, attempt them, settle each in the store.

``destinations`` decides when something may go out. Observers are told what happens; none is known by name.
"""
