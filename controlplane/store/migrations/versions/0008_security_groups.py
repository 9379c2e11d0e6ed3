"""security groups"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "port_policy",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("desired_generation", sa.Integer(), nullable=False),
        sa.Column("observed_generation", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "security_group",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=4096), nullable=True),
        sa.Column("account_id", sa.String(length=36), nullable=False),
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
        "security_group_rule",
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("traffic_type", sa.String(length=8), nullable=False),
        sa.Column("protocol", sa.String(length=8), nullable=False),
        sa.Column("start_port", sa.Integer(), nullable=True),
        sa.Column("end_port", sa.Integer(), nullable=True),
        sa.Column("icmp_type", sa.Integer(), nullable=True),
        sa.Column("icmp_code", sa.Integer(), nullable=True),
        sa.Column("cidr", sa.String(length=18), nullable=True),
        sa.Column("peer_id", sa.String(length=36), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["security_group.id"],
        ),
        sa.ForeignKeyConstraint(
            ["peer_id"],
            ["security_group.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("security_group_rule", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_security_group_rule_group_id"), ["group_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_security_group_rule_peer_id"), ["peer_id"], unique=False)

    op.create_table(
        "security_group_member",
        sa.Column("vm_id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["security_group.id"],
        ),
        sa.ForeignKeyConstraint(
            ["vm_id"],
            ["vm.id"],
        ),
        sa.PrimaryKeyConstraint("vm_id", "group_id"),
    )
    with op.batch_alter_table("security_group_member", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_security_group_member_group_id"), ["group_id"], unique=False)

    # zones that were there before may have them. Not in a batch: SQLite copies no table that others refer to
    op.add_column("zone", sa.Column("security_groups", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    op.drop_column("zone", "security_groups")
    with op.batch_alter_table("security_group_member", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_security_group_member_group_id"))

    op.drop_table("security_group_member")
    with op.batch_alter_table("security_group_rule", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_security_group_rule_peer_id"))
        batch_op.drop_index(batch_op.f("ix_security_group_rule_group_id"))

    op.drop_table("security_group_rule")
    op.drop_table("security_group")
    op.drop_table("port_policy")
