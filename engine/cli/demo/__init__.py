"""``engine demo``: stand-ins around a real engine, and a report of what it does while it happens."""
