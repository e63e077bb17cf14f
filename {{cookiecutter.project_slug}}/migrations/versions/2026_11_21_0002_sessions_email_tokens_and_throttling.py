"""sessions, email tokens and throttling

Revision: 0002, follows 0001, made 2026-11-21 04:48:12.104377+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _extend_user_and_session()
    _create_email_token()
    _create_throttle_bucket()


def _extend_user_and_session() -> None:
    op.add_column(
        "app_user", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column(
        "session",
        sa.Column(
            "last_used_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )
    op.add_column("session", sa.Column("address", sa.Text(), nullable=True))
    op.add_column("session", sa.Column("user_agent", sa.Text(), nullable=True))
    # Sessions that live keep what they could do so far. The default stays: the code before this
    # revision inserts sessions without a scope for as long as the rollout takes.
    scope = sa.Column(
        "scope",
        sa.Text(),
        server_default="account admin items:read items:write",
        nullable=False,
    )
    op.add_column("session", scope)


def _create_email_token() -> None:
    op.create_table(
        "email_token",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["app_user.id"],
            name=op.f("fk_email_token_user_id_app_user"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_email_token")),
    )
    op.create_index(op.f("ix_email_token_expires_at"), "email_token", ["expires_at"], unique=False)
    op.create_index(op.f("ix_email_token_user_id"), "email_token", ["user_id"], unique=False)


def _create_throttle_bucket() -> None:
    op.create_table(
        "throttle_bucket",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("forget_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttle_bucket")),
        prefixes=["UNLOGGED"],
    )
    op.create_index(
        op.f("ix_throttle_bucket_forget_at"),
        "throttle_bucket",
        ["forget_at"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_throttle_bucket_forget_at"), table_name="throttle_bucket")
    op.drop_table("throttle_bucket")
    op.drop_index(op.f("ix_email_token_user_id"), table_name="email_token")
    op.drop_index(op.f("ix_email_token_expires_at"), table_name="email_token")
    op.drop_table("email_token")
    for column in ("scope", "user_agent", "address", "last_used_at"):
        op.drop_column("session", column)
    op.drop_column("app_user", "email_verified_at")
