#!/bin/sh
# Upload build artifacts from a CI job, and print the address and SHA-256 of each.
#
#     sh examples/ci-upload.sh DIRECTORY [DESTINATION [OPTION...]]
#
#     sh examples/ci-upload.sh dist                                       # into the embedded local store
#     sh examples/ci-upload.sh dist s3://bucket/releases/1.4/ --profile ci
#
# What arrived is not sent again by another try. TRIES and PAUSE (seconds) say how often and after how long it is made.
set -eu

directory=${1:?say which directory to upload}
destination=${2:-local:artifacts/}
if [ $# -gt 2 ]; then shift 2; else shift $#; fi
tries=${TRIES:-3}
pause=${PAUSE:-60}

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

# A pipe would hide the exit status, so the lines go into a file first.
run() {
    status=0
    jettyctl upload --recursive "$directory" "$destination" --json --no-progress "$@" > "$lines" || status=$?
}

# results: "URL SHA256" of each file. errors: why the others failed. retryable: true if another try may help.
report() {
    python3 - "$1" "$lines" << 'PYTHON'
import json
import sys

wanted, path = sys.argv[1:]
with open(path, encoding="ascii") as file:
    records = [json.loads(line) for line in file]
errors = [record for record in records if record["type"] == "error"]
if wanted == "results":
    for record in records:
        if record["type"] == "result":
            print(record["url"], record["sha256"])
elif wanted == "errors":
    for record in errors:
        print(f"{record['source'] or 'jettyctl'}: {record['message']}. {record['hint']}", file=sys.stderr)
else:
    sys.exit(not any(record["retryable"] for record in errors))
PYTHON
}

attempt=1
while :; do
    run "$@"
    case $status in
        0)
            report results
            exit 0
            ;;
        5 | 75) again=yes ;;                                          # network, or stopped: worth another try
        3) if report retryable; then again=yes; else again=no; fi ;;  # some files failed
        *) again=no ;;                                                # needs a person
    esac
    report errors
    if [ "$again" = no ] || [ "$attempt" -ge "$tries" ]; then
        exit "$status"
    fi
    echo "attempt $attempt ended with status $status; once more in $pause s" >&2
    sleep "$pause"
    attempt=$((attempt + 1))
done
