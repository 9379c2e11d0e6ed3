"""system vms and consoles"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "custom_certificate",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("domain_suffix", sa.String(length=255), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "appliance_certificate",
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["appliance_id"],
            ["appliance.id"],
        ),
        sa.PrimaryKeyConstraint("appliance_id"),
    )
    op.create_table(
        "console_session",
        sa.Column("vm_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("login", sa.String(length=64), nullable=True),
        sa.Column("appliance_id", sa.String(length=36), nullable=True),
        sa.Column("host_id", sa.String(length=36), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("target", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("password", sa.LargeBinary(), nullable=True),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("expires", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("creator_address", sa.String(length=45), nullable=False),
        sa.Column("client_address", sa.String(length=45), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("acquired", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("bytes_received", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["appliance_id"],
            ["appliance.id"],
        ),
        sa.ForeignKeyConstraint(
            ["host_id"],
            ["host.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user.id"],
        ),
        sa.ForeignKeyConstraint(
            ["vm_id"],
            ["vm.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    with op.batch_alter_table("console_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_console_session_appliance_id"), ["appliance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_console_session_login"), ["login"], unique=False)
        batch_op.create_index(batch_op.f("ix_console_session_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_console_session_vm_id"), ["vm_id"], unique=False)

    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reports_seen", sa.Integer(), server_default="0", nullable=False))

    with op.batch_alter_table("public_ip", schema=None) as batch_op:
        batch_op.add_column(sa.Column("appliance_id", sa.String(length=36), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("public_ip", schema=None) as batch_op:
        batch_op.drop_column("appliance_id")
    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.drop_column("reports_seen")
    op.drop_table("console_session")
    op.drop_table("appliance_certificate")
    op.drop_table("custom_certificate")
