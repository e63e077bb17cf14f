-- What the role that runs the service may do with the tables that exist; run by their owner, with
-- the variable `service`: after roles.sql, and by restore.sh after it has made all tables anew.
GRANT USAGE ON SCHEMA public TO :"service";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"service";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"service";
-- The audit log only grows, and only migrations write down what has been migrated.
SELECT format('REVOKE UPDATE, DELETE ON %I FROM %I', tablename, :'service')
FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = 'audit_entry' \gexec
SELECT format('REVOKE INSERT, UPDATE, DELETE ON %I FROM %I', tablename, :'service')
FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = 'alembic_version' \gexec
