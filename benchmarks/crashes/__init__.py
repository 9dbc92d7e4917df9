"""Kill the gateway everywhere, let its broker answer badly, and compare what is left."""
