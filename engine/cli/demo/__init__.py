"""``engine demo``: stand-ins around a real engine, and the story of what it does, told as it happens."""
