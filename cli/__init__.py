"""The console command: one module per verb, imported lazily."""
