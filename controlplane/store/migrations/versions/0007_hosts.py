"""what hosts have, and which of their interfaces carry which traffic"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("host") as table:
        table.add_column(sa.Column("cpu_mhz", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("reserves", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("physical_network") as table:
        table.add_column(sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("physical_network") as table:
        table.drop_column("labels")
    with op.batch_alter_table("host") as table:
        table.drop_column("reserves")
        table.drop_column("cpu_mhz")
