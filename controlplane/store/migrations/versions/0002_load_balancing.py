"""load balancing"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ssl_certificate",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=True),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.String(length=95), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "name"),
    )
    op.create_table(
        "load_balancer_rule",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("public_ip_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=4096), nullable=True),
        sa.Column("algorithm", sa.String(length=16), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("public_port", sa.Integer(), nullable=False),
        sa.Column("private_port", sa.Integer(), nullable=False),
        sa.Column("source_cidrs", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("firewall_rule_id", sa.String(length=36), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["firewall_rule_id"], ["firewall_rule.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(
            ["network_id"],
            ["network.id"],
        ),
        sa.ForeignKeyConstraint(
            ["public_ip_id"],
            ["public_ip.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("load_balancer_rule", schema=None) as batch_op:
        batch_op.create_index("ix_load_balancer_rule_ip_port", ["public_ip_id", "public_port"], unique=False)
        batch_op.create_index(batch_op.f("ix_load_balancer_rule_network_id"), ["network_id"], unique=False)

    op.create_table(
        "load_balancer_certificate",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("certificate_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate_id"],
            ["ssl_certificate.id"],
        ),
        sa.ForeignKeyConstraint(["rule_id"], ["load_balancer_rule.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rule_id", "certificate_id"),
    )
    with op.batch_alter_table("load_balancer_certificate", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_load_balancer_certificate_certificate_id"), ["certificate_id"], unique=False
        )

    op.create_table(
        "load_balancer_member",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("nic_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["nic_id"],
            ["nic.id"],
        ),
        sa.ForeignKeyConstraint(["rule_id"], ["load_balancer_rule.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rule_id", "nic_id"),
    )
    with op.batch_alter_table("load_balancer_member", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_load_balancer_member_nic_id"), ["nic_id"], unique=False)

    op.create_table(
        "load_balancer_policy",
        sa.Column("rule_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("method", sa.String(length=16), nullable=True),
        sa.Column("description", sa.String(length=4096), nullable=True),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["rule_id"], ["load_balancer_rule.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("load_balancer_policy", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_load_balancer_policy_rule_id"), ["rule_id"], unique=False)

    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("balanced", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.drop_column("balanced")

    with op.batch_alter_table("load_balancer_policy", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_load_balancer_policy_rule_id"))

    op.drop_table("load_balancer_policy")
    with op.batch_alter_table("load_balancer_member", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_load_balancer_member_nic_id"))

    op.drop_table("load_balancer_member")
    with op.batch_alter_table("load_balancer_certificate", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_load_balancer_certificate_certificate_id"))

    op.drop_table("load_balancer_certificate")
    with op.batch_alter_table("load_balancer_rule", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_load_balancer_rule_network_id"))
        batch_op.drop_index("ix_load_balancer_rule_ip_port")

    op.drop_table("load_balancer_rule")
    op.drop_table("ssl_certificate")
