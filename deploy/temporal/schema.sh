#!/bin/sh
# Makes Temporal's two databases, or brings them to the version of this image. May be repeated: each command leaves alone what is
# there. The server is found by temporal-sql-tool's own variables: SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD.
set -eu

# Where the image keeps the schemas; elsewhere they are in the server's source.
schemas=${TEMPORAL_SCHEMAS:-/etc/temporal/schema}/postgresql/v12

# make DATABASE SCHEMA
make() {
  temporal-sql-tool --database "$1" create-database
  temporal-sql-tool --database "$1" setup-schema --version 0.0
  temporal-sql-tool --database "$1" update-schema --schema-dir "$schemas/$2/versioned"
}

make temporal temporal
make temporal_visibility visibility
