"""What is promised, while everything around the engine breaks: ``make chaos`` counts and compares the books."""
