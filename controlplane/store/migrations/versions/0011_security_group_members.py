"""memberships of security groups are resources, for usage is metered by their ids"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

from controlplane.store.models import new_id, now
from controlplane.store.models.base import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_MEMBER = "security_group_member"
_INDEX = "ix_security_group_member_group_id"


def upgrade() -> None:
    moment = now()
    _make_anew(
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("vm_id", "group_id"),
        more=lambda: {"id": new_id(), "created": moment},
    )


def downgrade() -> None:
    _make_anew(sa.PrimaryKeyConstraint("vm_id", "group_id"), more=dict)


def _make_anew(*parts: sa.schema.SchemaItem, more: Callable[[], dict[str, object]]) -> None:
    """Make the table again with ``parts`` beside its two ids; ``more`` makes the other columns of a row."""
    ids = sa.table(_MEMBER, sa.column("vm_id"), sa.column("group_id"))
    rows = op.get_bind().execute(sa.select(ids)).mappings().all()
    op.drop_index(_INDEX, _MEMBER)
    op.drop_table(_MEMBER)
    made = op.create_table(
        _MEMBER,
        sa.Column("vm_id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["security_group.id"]),
        sa.ForeignKeyConstraint(["vm_id"], ["vm.id"]),
        *parts,
    )
    op.create_index(_INDEX, _MEMBER, ["group_id"])
    op.bulk_insert(made, [{**row, **more()} for row in rows])
