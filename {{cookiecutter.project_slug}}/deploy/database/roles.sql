-- Two roles for one database: `…_owner` owns the tables and migrates them; the other runs the service,
-- reads and writes rows, and can neither change a table nor rewrite the audit log.
-- Run by roles.sh, which sets the variables of the environment.
\getenv database DATABASE
\getenv owner_password OWNER_PASSWORD
\getenv service_password SERVICE_PASSWORD
\set owner :database _owner
\set service :database

SET client_min_messages = warning;
SELECT format('CREATE ROLE %I', name) FROM (VALUES (:'owner'), (:'service')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) \gexec
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
ALTER ROLE :"service" LOGIN PASSWORD :'service_password';
-- Who is no superuser, as with a managed PostgreSQL, gives away only what is his own.
GRANT :"owner" TO CURRENT_USER;

SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = :'database') \gexec
ALTER DATABASE :"database" OWNER TO :"owner";
-- Default: every role of the server may connect and make temporary tables.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"service";

\connect :"database"
SET client_min_messages = warning;
ALTER SCHEMA public OWNER TO :"owner";
SET ROLE :"owner";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
-- Of tables that later migrations make. Not for one schema: a restore makes the schema anew.
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"service";
ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO :"service";
-- grants.sql follows.
