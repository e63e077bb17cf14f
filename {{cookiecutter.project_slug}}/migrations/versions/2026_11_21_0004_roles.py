"""roles

Revision: 0004, follows 0003, made 2026-11-21 17:00:00+00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # All of it can be run again: the last statement is not in the transaction of the others.
    role = sa.Column("role", sa.String(40), server_default="member", nullable=False)
    op.add_column("app_user", role, if_not_exists=True)
    # Admins are few; finding them reads the table once.
    op.execute("UPDATE app_user SET role = 'admin' WHERE is_admin")
    _keep_is_admin_in_step()
    # Drops only what an earlier try has made.
    op.execute(
        """
        -- squawk-ignore ban-drop-constraint
        ALTER TABLE app_user DROP CONSTRAINT IF EXISTS ck_app_user_role,
        ADD CONSTRAINT ck_app_user_role
        CHECK (role IN ('member', 'admin')) NOT VALID
        """
    )
    # On its own it reads the table while others write; above it would hold the table's lock.
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE app_user VALIDATE CONSTRAINT ck_app_user_role")


def _keep_is_admin_in_step() -> None:
    # The code before this revision reads and writes `is_admin` for as long as the rollout takes.
    # The next release drops the trigger, the function and the column.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_is_admin_and_role_in_step() RETURNS trigger
        LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                IF NEW.is_admin THEN
                    NEW.role := 'admin';
                END IF;
            ELSIF NEW.is_admin <> OLD.is_admin AND NEW.role = OLD.role THEN
                NEW.role := CASE WHEN NEW.is_admin THEN 'admin' ELSE 'member' END;
            END IF;
            NEW.is_admin := NEW.role = 'admin';
            RETURN NEW;
        END
        $$
        """
    )
    op.execute(
        """
        CREATE OR REPLACE TRIGGER is_admin_and_role_in_step BEFORE INSERT OR UPDATE ON app_user
        FOR EACH ROW EXECUTE FUNCTION keep_is_admin_and_role_in_step()
        """
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER is_admin_and_role_in_step ON app_user")
    op.execute("DROP FUNCTION keep_is_admin_and_role_in_step()")
    op.drop_column("app_user", "role")
