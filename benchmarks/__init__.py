"""Measurements that are too long for the tests; each prints a table and, last, one JSON line."""
