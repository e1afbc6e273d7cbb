"""What several commands share: options, output, and how they reach a running or a stopped engine."""
