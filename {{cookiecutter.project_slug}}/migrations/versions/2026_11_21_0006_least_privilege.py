"""the audit log cannot be changed by the role that runs the service

Revision: 0006, follows 0005, made 2026-11-21 18:00:00+00:00
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # New tables are readable and writable for that role (deploy/database/roles.sql). Whatever its
    # name is: everybody but the owner, who runs this.
    op.execute(
        """
        DO $$
        DECLARE grantee name;
        BEGIN
            FOR grantee IN
                SELECT DISTINCT grants.grantee
                FROM information_schema.role_table_grants AS grants
                WHERE grants.table_schema = 'public'
                    AND grants.table_name IN ('audit_entry', 'alembic_version')
                    AND grants.grantee NOT IN (current_user, 'PUBLIC')
            LOOP
                EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_entry FROM %I', grantee);
                EXECUTE format(
                    'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM %I', grantee
                );
            END LOOP;
        END
        $$
        """
    )


def downgrade() -> None:
    """What was taken away is given back by deploy/database/roles.sh alone."""
