"""Measurements, as ratios of two things run side by side on the same bodies: ``make bench``."""
