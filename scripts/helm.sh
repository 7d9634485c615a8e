#!/usr/bin/env bash
# The chart (helm/hpns): lint, templates for both regions and other shapes of values, schemas, laws over what is rendered, and
# what of it can be started here with the real program. What it needs comes into target/tools: helm by Go, which Debian has,
# and a check against the schemas of Kubernetes from the Python package index.
#   scripts/helm.sh [LAW…]    all laws, or those whose names contain one of the words
# There is no cluster in it: helm/hpns/README.md tells what that leaves open.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
helm_version=v3.22.0
mkdir -p "$tools/bin"

# Debian's packages, where this user may install them.
need() {
  if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "helm: please install: $1" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

if [ "$("$tools/bin/helm" version --template '{{.Version}}' 2>/dev/null)" != "$helm_version" ]; then
  if command -v helm >/dev/null && [[ $(helm version --template '{{.Version}}') == v3.* ]]; then
    ln -sf "$(command -v helm)" "$tools/bin/helm"
  else
    command -v go >/dev/null || need golang-go
    echo "helm: building helm $helm_version, some minutes"
    GOBIN=$tools/bin GOFLAGS=-trimpath nice -n 10 go install -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$helm_version" \
      "helm.sh/helm/v3/cmd/helm@$helm_version"
  fi
fi

if ! cmp -s tests/helm/requirements.txt "$tools/helm-requirements.txt"; then
  echo "helm: installing $(tr '\n' ' ' <tests/helm/requirements.txt)"
  python3 -c 'import venv, ensurepip' 2>/dev/null || need python3-venv
  python3 -m venv "$tools/helm-venv"
  "$tools/helm-venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/helm/requirements.txt
  cp tests/helm/requirements.txt "$tools/helm-requirements.txt"
fi

PYTHONDONTWRITEBYTECODE=1 PATH=$tools/bin:$PATH exec "$tools/helm-venv/bin/python" tests/helm/laws.py "$@"
