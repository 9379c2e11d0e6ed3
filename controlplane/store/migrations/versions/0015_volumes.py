"""Storage pools, volumes and snapshots."""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("disk_offering", sa.Column("for_display", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.create_table(
        "storage_pool",
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("path", sa.String(length=4096), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("tags", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stopped", sa.JSON(), nullable=False),
        sa.Column("removed", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "volume",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=True),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("disk_offering_id", sa.String(length=36), nullable=True),
        sa.Column("template_id", sa.String(length=36), nullable=True),
        sa.Column("snapshot_id", sa.String(length=36), nullable=True),
        sa.Column("vm_id", sa.String(length=36), nullable=True),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.Column("attached", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("for_display", sa.Boolean(), nullable=False),
        sa.Column("idle_since", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("destroyed", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("removed", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["disk_offering_id"],
            ["disk_offering.id"],
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"],
            ["storage_pool.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["template.id"],
        ),
        sa.ForeignKeyConstraint(
            ["vm_id"],
            ["vm.id"],
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_volume_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_volume_pool_id"), ["pool_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_volume_vm_id"), ["vm_id"], unique=False)
        batch_op.create_index(
            "uq_volume_device",
            ["vm_id", "device_id"],
            unique=True,
            sqlite_where=sa.text("removed IS NULL"),
            postgresql_where=sa.text("removed IS NULL"),
        )

    op.create_table(
        "snapshot",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("volume_type", sa.String(length=16), nullable=False),
        sa.Column("policy_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=True),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("physical_size", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("removed", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["pool_id"],
            ["storage_pool.id"],
        ),
        sa.ForeignKeyConstraint(
            ["volume_id"],
            ["volume.id"],
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_snapshot_policy_id"), ["policy_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_snapshot_pool_id"), ["pool_id"], unique=False)
        batch_op.create_index("ix_snapshot_volume", ["volume_id", "kind"], unique=False)

    op.create_table(
        "snapshot_policy",
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("interval", sa.String(length=8), nullable=False),
        sa.Column("schedule", sa.String(length=16), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("max_snaps", sa.Integer(), nullable=False),
        sa.Column("for_display", sa.Boolean(), nullable=False),
        sa.Column("next_run", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["volume_id"],
            ["volume.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("volume_id", "interval"),
    )
    with op.batch_alter_table("snapshot_policy", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_policy_next_run"), ["next_run"], unique=False)


def downgrade() -> None:
    op.drop_column("disk_offering", "for_display")
    with op.batch_alter_table("snapshot_policy", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_policy_next_run"))

    op.drop_table("snapshot_policy")
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index("ix_snapshot_volume")
        batch_op.drop_index(batch_op.f("ix_snapshot_pool_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_policy_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_account_id"))

    op.drop_table("snapshot")
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_volume_device", sqlite_where=sa.text("removed IS NULL"), postgresql_where=sa.text("removed IS NULL")
        )
        batch_op.drop_index(batch_op.f("ix_volume_vm_id"))
        batch_op.drop_index(batch_op.f("ix_volume_pool_id"))
        batch_op.drop_index(batch_op.f("ix_volume_account_id"))

    op.drop_table("volume")
    op.drop_table("storage_pool")
