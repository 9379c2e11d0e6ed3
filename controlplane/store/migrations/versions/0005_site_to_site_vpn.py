"""Site-to-site VPN."""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vpn_customer_gateway",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("gateway", sa.String(length=15), nullable=False),
        sa.Column("cidrs", sa.JSON(), nullable=False),
        sa.Column("psk", sa.LargeBinary(), nullable=False),
        sa.Column("ike_policy", sa.String(length=255), nullable=False),
        sa.Column("esp_policy", sa.String(length=255), nullable=False),
        sa.Column("ike_version", sa.String(length=8), nullable=False),
        sa.Column("ike_lifetime", sa.Integer(), nullable=False),
        sa.Column("esp_lifetime", sa.Integer(), nullable=False),
        sa.Column("dpd", sa.Boolean(), nullable=False),
        sa.Column("force_encap", sa.Boolean(), nullable=False),
        sa.Column("split_connections", sa.Boolean(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "name"),
    )
    op.create_table(
        "vpn_gateway",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=True),
        sa.Column("vpc_id", sa.String(length=36), nullable=True),
        sa.Column("public_ip_id", sa.String(length=36), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["network_id"],
            ["network.id"],
        ),
        sa.ForeignKeyConstraint(
            ["public_ip_id"],
            ["public_ip.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id"),
        sa.UniqueConstraint("vpc_id"),
    )
    op.create_table(
        "vpn_connection",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("gateway_id", sa.String(length=36), nullable=False),
        sa.Column("customer_gateway_id", sa.String(length=36), nullable=False),
        sa.Column("passive", sa.Boolean(), nullable=False),
        sa.Column("serial", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.String(length=1024), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_gateway_id"],
            ["vpn_customer_gateway.id"],
        ),
        sa.ForeignKeyConstraint(
            ["gateway_id"],
            ["vpn_gateway.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("customer_gateway_id"),
    )
    with op.batch_alter_table("vpn_connection", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vpn_connection_gateway_id"), ["gateway_id"], unique=False)

    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tunnels", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.drop_column("tunnels")

    with op.batch_alter_table("vpn_connection", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_vpn_connection_gateway_id"))

    op.drop_table("vpn_connection")
    op.drop_table("vpn_gateway")
    op.drop_table("vpn_customer_gateway")
