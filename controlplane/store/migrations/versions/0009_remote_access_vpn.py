"""Remote access VPN; the network service Vpn."""

import json

import sqlalchemy as sa
from alembic import op

import controlplane.store.models

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vpn_user",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
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
        "remote_access_vpn",
        sa.Column("account_id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("public_ip_id", sa.String(length=36), nullable=False),
        sa.Column("first", sa.String(length=15), nullable=False),
        sa.Column("last", sa.String(length=15), nullable=False),
        sa.Column("psk", sa.LargeBinary(), nullable=False),
        sa.Column("open_firewall", sa.Boolean(), nullable=False),
        sa.Column("for_display", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.String(length=1024), nullable=False),
        sa.Column("server_name", sa.String(length=255), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created", controlplane.store.models.base.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["account.id"],
        ),
        sa.ForeignKeyConstraint(
            ["network_id"],
            ["network.id"],
        ),
        sa.ForeignKeyConstraint(
            ["public_ip_id"],
            ["public_ip.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("network_id"),
        sa.UniqueConstraint("public_ip_id"),
    )
    with op.batch_alter_table("remote_access_vpn", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_remote_access_vpn_account_id"), ["account_id"], unique=False)

    for table in ("vpn_gateway", "vpn_connection"):
        op.add_column(table, sa.Column("for_display", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("appliance", sa.Column("visits_seen", sa.BigInteger(), server_default="0", nullable=False))
    _offer_vpn()


def _offer_vpn() -> None:
    """Offerings whose networks have a VPN gateway offer the service, which there was no word for before."""
    connection = op.get_bind()
    found = connection.execute(
        sa.text(
            "SELECT DISTINCT o.id, o.services FROM network_offering o JOIN network n ON n.network_offering_id = o.id "
            "JOIN vpn_gateway g ON g.network_id = n.id"
        )
    ).all()
    for id, services in found:
        # a column of JSON is text on some databases only
        offered = json.loads(services) if isinstance(services, str) else services
        offered["Vpn"] = {
            "providers": ["VirtualRouter"],
            "capabilities": {"SupportedVpnTypes": "l2tp,ipsec", "VpnTypes": "remoteaccess,s2svpn"},
        }
        connection.execute(
            sa.text("UPDATE network_offering SET services = :services WHERE id = :id").bindparams(
                sa.bindparam("services", offered, sa.JSON), id=id
            )
        )


def downgrade() -> None:
    op.drop_column("appliance", "visits_seen")
    for table in ("vpn_gateway", "vpn_connection"):
        op.drop_column(table, "for_display")
    with op.batch_alter_table("remote_access_vpn", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_remote_access_vpn_account_id"))

    op.drop_table("remote_access_vpn")
    op.drop_table("vpn_user")
