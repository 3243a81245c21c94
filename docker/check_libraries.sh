#!/bin/sh
# Fail when a shared object of an environment needs a library that this system lacks.
#
#   docker/check_libraries.sh /opt/venv
#
# A wheel's vendored libraries find their neighbours through the extension module that loads them; alone, ldd has to
# be told their folder.
set -eu
missing=$(
  find "$1" \( -name '*.so' -o -name '*.so.*' \) -type f | while read -r object; do
    LD_LIBRARY_PATH=$(dirname "$object") ldd "$object" 2>/dev/null | grep 'not found' | sed "s|^|$object:|" || true
  done
)
[ -z "$missing" ] || { printf '%s\n' "$missing" >&2; exit 1; }
