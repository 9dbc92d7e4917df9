"""All controls as pure functions: (state, order or basket or decision, limits) -> violations."""
