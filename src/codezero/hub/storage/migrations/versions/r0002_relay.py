"""What replicas of the Hub pass to each other of what pages ask machines.

All of it is of the moment: PostgreSQL writes no log for it, and forgets it where it falls.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    prefixes = ["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else []
    op.create_table(
        "relay_replicas",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relay_replicas")),
        prefixes=prefixes,
    )
    op.create_table(
        "relay_machines",
        sa.Column("user_id", sa.String(length=26), nullable=False),
        sa.Column("machine", sa.String(length=26), nullable=False),
        sa.Column("replica_id", sa.String(length=26), nullable=False),
        sa.Column("connection_id", sa.String(length=26), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "machine", name=op.f("pk_relay_machines")),
        prefixes=prefixes,
    )
    op.create_index(op.f("ix_relay_machines_replica_id"), "relay_machines", ["replica_id"], unique=False)
    op.create_table(
        "relay_posts",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("replica_id", sa.String(length=26), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_relay_posts")),
        prefixes=prefixes,
    )
    op.create_index(op.f("ix_relay_posts_replica_id"), "relay_posts", ["replica_id"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index(op.f("ix_relay_posts_replica_id"), table_name="relay_posts")
    op.drop_table("relay_posts")
    op.drop_index(op.f("ix_relay_machines_replica_id"), table_name="relay_machines")
    op.drop_table("relay_machines")
    op.drop_table("relay_replicas")
