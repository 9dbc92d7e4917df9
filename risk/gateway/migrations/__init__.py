"""How the tables of the ledger came about, step by step (Alembic)."""
