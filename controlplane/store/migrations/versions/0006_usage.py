"""usage"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "traffic_counter",
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.String(length=64), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("taken", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("appliance_id", "subject_id"),
    )
    op.create_table(
        "traffic_sample",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=True),
        sa.Column("vm_id", sa.String(length=36), nullable=True),
        sa.Column("start", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("end", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("traffic_sample", schema=None) as batch_op:
        batch_op.create_index("ix_traffic_sample_end", ["end"], unique=False)
        batch_op.create_index("ix_traffic_sample_subject", ["subject_id", "end"], unique=False)
        batch_op.create_index("ix_traffic_sample_vm", ["vm_id", "end"], unique=False)

    op.create_table(
        "usage_job",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("start", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("end", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("usage_job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_job_kind"), ["kind"], unique=False)

    op.create_table(
        "usage_record",
        sa.Column("usage_type", sa.Integer(), nullable=False),
        sa.Column("usage_id", sa.String(length=36), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("domain_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("start", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("end", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("raw_usage", sa.Double(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("usage_record", schema=None) as batch_op:
        batch_op.create_index("ix_usage_record_account", ["account_id", "start"], unique=False)
        batch_op.create_index("ix_usage_record_start", ["start", "end"], unique=False)

    op.create_table(
        "usage_span",
        sa.Column("usage_type", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("begin", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("end", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("usage_span", schema=None) as batch_op:
        batch_op.create_index("ix_usage_span_end", ["end"], unique=False)
        batch_op.create_index("ix_usage_span_subject", ["subject_id", "usage_type"], unique=False)

    with op.batch_alter_table("nic", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rate_mbit", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("nic", schema=None) as batch_op:
        batch_op.drop_column("rate_mbit")

    with op.batch_alter_table("usage_span", schema=None) as batch_op:
        batch_op.drop_index("ix_usage_span_subject")
        batch_op.drop_index("ix_usage_span_end")

    op.drop_table("usage_span")
    with op.batch_alter_table("usage_record", schema=None) as batch_op:
        batch_op.drop_index("ix_usage_record_start")
        batch_op.drop_index("ix_usage_record_account")

    op.drop_table("usage_record")
    with op.batch_alter_table("usage_job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_job_kind"))

    op.drop_table("usage_job")
    with op.batch_alter_table("traffic_sample", schema=None) as batch_op:
        batch_op.drop_index("ix_traffic_sample_vm")
        batch_op.drop_index("ix_traffic_sample_subject")
        batch_op.drop_index("ix_traffic_sample_end")

    op.drop_table("traffic_sample")
    op.drop_table("traffic_counter")
