"""Bars, calendars, indicators and causal features. NumPy and pandas; no torch, no ray."""
