"""how busy hosts are"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("host") as table:
        table.add_column(sa.Column("cpu_used", sa.Double(), nullable=True))
        table.add_column(sa.Column("memory_used", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("host") as table:
        table.drop_column("memory_used")
        table.drop_column("cpu_used")
