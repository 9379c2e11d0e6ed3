"""The storage network of secondary-storage VMs."""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "storage_ip_range",
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("pod_id", sa.String(length=36), nullable=False),
        sa.Column("physical_network_id", sa.String(length=36), nullable=False),
        sa.Column("vlan", sa.String(length=64), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("netmask", sa.String(), nullable=False),
        sa.Column("start_ip", sa.String(), nullable=False),
        sa.Column("end_ip", sa.String(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["zone_id"], ["zone.id"]),
        sa.ForeignKeyConstraint(["pod_id"], ["pod.id"]),
        sa.ForeignKeyConstraint(["physical_network_id"], ["physical_network.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "storage_address",
        sa.Column("storage_ip_range_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["storage_ip_range_id"], ["storage_ip_range.id"]),
        sa.ForeignKeyConstraint(["appliance_id"], ["appliance.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("appliance_id"),
        sa.UniqueConstraint("storage_ip_range_id", "address"),
    )


def downgrade() -> None:
    op.drop_table("storage_address")
    op.drop_table("storage_ip_range")
