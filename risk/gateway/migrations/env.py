"""What Alembic runs: the steps on the connection of `Ledger.migrate`, in its transaction."""

from alembic import context

from risk.gateway.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
