"""When a delivery may go to a destination: concurrency, rate, fair share, memory and blocks. No I/O, a given clock."""
