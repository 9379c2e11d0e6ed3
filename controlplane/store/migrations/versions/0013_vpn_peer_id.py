"""A far end of a VPN may call itself something else than its address."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("vpn_customer_gateway") as batch:
        batch.add_column(sa.Column("peer_id", sa.String(length=255), nullable=True))
