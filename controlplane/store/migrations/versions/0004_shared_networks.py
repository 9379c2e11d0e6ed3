"""shared networks"""

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: table, column, table that it refers to. In plain SQL, because Alembic would copy the table instead, which SQLite
#: refuses for tables that others refer to
_REFERENCES = (
    ("network", "domain_id", "domain"),
    ("vlan_ip_range", "network_id", "network"),
    ("vlan_ip_range", "pod_id", "pod"),
)


def upgrade() -> None:
    _address_table("router_address", "vlan_ip_range")
    _address_table("nic_secondary_ip", "nic")
    op.create_index(op.f("ix_nic_secondary_ip_nic_id"), "nic_secondary_ip", ["nic_id"], unique=False)
    op.create_table(
        "network_permission",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"]),
        sa.ForeignKeyConstraint(["network_id"], ["network.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id", "account_id"),
    )
    op.add_column("domain", sa.Column("network_domain", sa.String(length=190), nullable=True))
    op.add_column("load_balancer_member", sa.Column("address", sa.String(length=15), nullable=True))
    op.add_column("port_forwarding_rule", sa.Column("guest_address", sa.String(length=15), nullable=True))
    op.add_column("public_ip", sa.Column("static_nat_address", sa.String(length=15), nullable=True))
    op.add_column("network", sa.Column("own_domain", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("network", sa.Column("acl_type", sa.String(length=8), nullable=False, server_default="Account"))
    op.add_column("network", sa.Column("subdomain_access", sa.Boolean(), nullable=False, server_default=sa.false()))
    for table, column, target in _REFERENCES:
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} VARCHAR(36) REFERENCES {target} (id)")
    op.create_index(op.f("ix_vlan_ip_range_network_id"), "vlan_ip_range", ["network_id"], unique=False)
    # a domain that was made up for the account was given by nobody
    op.execute("UPDATE network SET own_domain = false WHERE network_domain LIKE 'cs' || substr(account_id, 25) || '.%'")


def _address_table(name: str, owner: str) -> None:
    op.create_table(
        name,
        sa.Column(f"{owner}_id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=15), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint([f"{owner}_id"], [f"{owner}.id"]),
        sa.ForeignKeyConstraint(["network_id"], ["network.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id", "address"),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_vlan_ip_range_network_id"), "vlan_ip_range")
    for table, column, _ in reversed(_REFERENCES):
        op.drop_column(table, column)
    for column in ("subdomain_access", "acl_type", "own_domain"):
        op.drop_column("network", column)
    op.drop_column("public_ip", "static_nat_address")
    op.drop_column("port_forwarding_rule", "guest_address")
    op.drop_column("load_balancer_member", "address")
    op.drop_column("domain", "network_domain")
    op.drop_table("network_permission")
    op.drop_table("nic_secondary_ip")
    op.drop_table("router_address")
