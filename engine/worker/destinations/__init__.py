"""When a delivery may go to a destination: concurrency, rate, fair share, memory and blocks. A clock is passed in."""
