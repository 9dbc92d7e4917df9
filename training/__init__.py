"""Warm start and reinforcement learning on Ray RLlib."""
