#!/bin/sh
# Drops and makes anew a development database with roles and migrations, for sqlx's checks at compile time.
# usage: scripts/dev-database.sh [database]; the server is told by psql's own variables (PGHOST, PGPORT, PGUSER).
set -eu
database=${1:-dev}
export PGHOST="${PGHOST:-127.0.0.1}" PGPORT="${PGPORT:-55432}" PGUSER="${PGUSER:-postgres}"
export PGOPTIONS='-c client_min_messages=warning'
migrations=$(cd "$(dirname "$0")/../migrations" && pwd)

run() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$@"; }

run --dbname postgres --command "DROP DATABASE IF EXISTS $database WITH (FORCE)" --command "CREATE DATABASE $database"
run --dbname "$database" --file "$migrations/bootstrap/roles.sql" --file "$migrations/bootstrap/database.sql"
# As the owner, who has no rights on rows: a migration that works here works under `provisioner migrate`.
for file in "$migrations"/[0-9]*.sql; do
    run --dbname "$database" --single-transaction --command 'SET ROLE agent_ready_owner' --file "$file"
done
