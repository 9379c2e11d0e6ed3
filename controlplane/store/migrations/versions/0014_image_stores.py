"""image stores, what is in them, and what system VMs do there"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NEW = ("storage_link", "storage_job", "peer_certificate", "template_permission", "stored_image", "image_store")
_TEMPLATE = ("details", "tag", "checksum", "url", "is_dynamically_scalable", "bootable", "is_extractable")


def upgrade() -> None:
    op.create_table(
        "image_store",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=True),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("healthy", sa.Boolean(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("free", sa.BigInteger(), nullable=True),
        sa.Column("removed", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "stored_image",
        sa.Column("owner_type", sa.String(length=16), nullable=False),
        sa.Column("owner_id", sa.String(length=36), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("store_id", sa.String(length=36), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("physical_size", sa.BigInteger(), nullable=True),
        sa.Column("virtual_size", sa.BigInteger(), nullable=True),
        sa.Column("checksum", sa.String(length=140), nullable=True),
        sa.Column("object_checksum", sa.String(length=140), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("removed", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["store_id"],
            ["image_store.id"],
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("stored_image", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stored_image_owner_id"), ["owner_id"], unique=False)

    op.create_table(
        "template_permission",
        sa.Column("template_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["template.id"],
        ),
        sa.PrimaryKeyConstraint("template_id", "account_id"),
    )
    op.create_table(
        "peer_certificate",
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
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
        "storage_job",
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("appliance_id", sa.String(length=36), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("store_id", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.Column("seconds_left", sa.BigInteger(), nullable=True),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("cause", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("ended", controlplane.store.models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["appliance_id"],
            ["appliance.id"],
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("storage_job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_storage_job_appliance_id"), ["appliance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_storage_job_ended"), ["ended"], unique=False)
        batch_op.create_index(batch_op.f("ix_storage_job_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "storage_link",
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("appliance_id", sa.String(length=36), nullable=False),
        sa.Column("store_id", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=True),
        sa.Column("peer", sa.String(length=63), nullable=True),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("expires", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["appliance_id"],
            ["appliance.id"],
        ),
        sa.ForeignKeyConstraint(
            ["zone_id"],
            ["zone.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token_hash"),
    )
    with op.batch_alter_table("storage_link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_storage_link_appliance_id"), ["appliance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_storage_link_expires"), ["expires"], unique=False)
        batch_op.create_index(batch_op.f("ix_storage_link_subject_id"), ["subject_id"], unique=False)

    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.add_column(sa.Column("shares", sa.JSON(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("report_digest", sa.String(length=64), nullable=True))

    with op.batch_alter_table("template", schema=None) as batch_op:
        batch_op.add_column(sa.Column("is_extractable", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch_op.add_column(sa.Column("bootable", sa.Boolean(), server_default=sa.true(), nullable=False))
        batch_op.add_column(
            sa.Column("is_dynamically_scalable", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
        batch_op.add_column(sa.Column("url", sa.String(length=2048), nullable=True))
        batch_op.add_column(sa.Column("checksum", sa.String(length=140), nullable=True))
        batch_op.add_column(sa.Column("tag", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("details", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("template", schema=None) as batch_op:
        for column in _TEMPLATE:
            batch_op.drop_column(column)
    with op.batch_alter_table("appliance", schema=None) as batch_op:
        batch_op.drop_column("report_digest")
        batch_op.drop_column("shares")
    for table in _NEW:
        op.drop_table(table)
