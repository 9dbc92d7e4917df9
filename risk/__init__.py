"""Measures, limits, projection onto limits, exits and breakers."""
