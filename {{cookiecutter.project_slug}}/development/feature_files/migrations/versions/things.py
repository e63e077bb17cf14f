"""{things}

Revision: REVISION, follows DOWN_REVISION, made MADE_AT
"""

import sqlalchemy as sa
from alembic import op

revision = "REVISION"
down_revision = "DOWN_REVISION"
branch_labels = None
depends_on = None


def upgrade() -> None:
    now = sa.text("now()")
    owner = sa.ForeignKey(
        "app_user.id", name=op.f("fk_thing_owner_id_app_user"), ondelete="CASCADE"
    )
    op.create_table(
        "thing",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), owner, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thing")),
    )
    op.create_index(op.f("ix_thing_owner_id_id"), "thing", ["owner_id", "id"])


def downgrade() -> None:
    op.drop_table("thing")
