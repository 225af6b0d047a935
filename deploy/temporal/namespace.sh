#!/bin/sh
# Makes the namespace and its search attributes. May be repeated; a namespace that is there keeps its settings. The server is found by
# the Temporal CLI's own variables: TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE.
set -eu

# eventually COMMAND...: the port is open before the server serves, and a new namespace is known everywhere only after seconds.
eventually() {
  attempt=1
  until "$@"; do
    [ "$attempt" -lt 60 ] || return 1
    attempt=$((attempt + 1))
    sleep 2
  done
}

eventually temporal operator cluster health

# Retention is how long a finished registration can be looked at: what was decided, on what evidence, what was tried.
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 90d

# Those of workflows/attributes.go. Registrations run without them too, but cannot be listed by their state.
eventually temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" \
  --name RegistrarModel --type Keyword \
  --name RegistrarState --type Keyword \
  --name RegistrarOutcome --type Keyword \
  --name RegistrarWaitingFor --type Keyword \
  --name RegistrarVersion --type Keyword \
  --name RegistrarServer --type Keyword

# The server takes them in after seconds: whoever waits for this script finds them usable.
eventually temporal workflow list --namespace "$TEMPORAL_NAMESPACE" --query 'RegistrarVersion IS NULL' --limit 1
