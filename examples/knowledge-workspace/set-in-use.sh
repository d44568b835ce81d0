#!/usr/bin/env bash
# Tells Tollgate what users have already, as the old database counts it: subject, capacity, units in use. Running it again
# does no harm.
#
#   bash set-in-use.sh in-use.csv
set -euo pipefail
while IFS=, read -r subject capacity in_use; do
  tollgate capacity set "$subject" "$capacity" "$in_use" --reason "moved in" >/dev/null
  echo "$subject has $in_use of $capacity"
done < "$1"
