"""a load balancer rule may have several addresses of one guest"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_MEMBER = "load_balancer_member"
#: constraints have no names of their own
_NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
_UNIQUE = "uq_load_balancer_member_rule_id"


def upgrade() -> None:
    _unique("rule_id", "nic_id", "address")


def downgrade() -> None:
    members = sa.table(_MEMBER, sa.column("address"))
    op.execute(sa.delete(members).where(members.c.address.is_not(None)))
    _unique("rule_id", "nic_id")


def _unique(*columns: str) -> None:
    with op.batch_alter_table(_MEMBER, naming_convention=_NAMES) as batch_op:
        batch_op.drop_constraint(_UNIQUE, type_="unique")
        batch_op.create_unique_constraint(_UNIQUE, columns)
