"""Write a migration for changed models: ``make migration MESSAGE="add x"``. Review the file it names."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command as alembic

from controlplane.store.database import Database, alembic_config


def main() -> None:
    """Migrate an empty database to the newest version, compare it with the models, write the difference."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database.in_directory(Path(directory))
        database.migrate()
        with database.engine.connect() as connection:
            alembic.revision(alembic_config(connection), message=" ".join(sys.argv[1:]), autogenerate=True)
        database.close()


if __name__ == "__main__":
    main()
