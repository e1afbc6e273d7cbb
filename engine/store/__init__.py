"""What was accepted and what is still to be done, kept safe."""
