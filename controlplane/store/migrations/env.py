"""Alembic's entry: migrate over the connection that ``Database.migrate`` gives."""

from alembic import context

from controlplane.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter columns in place; Alembic copies the table instead
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=False,
)
context.run_migrations()
