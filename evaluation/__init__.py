"""Backtest, statistics, degeneracy and the report."""
