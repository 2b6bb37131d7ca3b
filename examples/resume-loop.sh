#!/bin/sh
# Upload over a link that breaks: again and again, until it is done or the limits are reached.
#
#     sh examples/resume-loop.sh FILE [DESTINATION [OPTION...]]
#
#     sh examples/resume-loop.sh disk.img                                 # into the embedded local store
#     sh examples/resume-loop.sh disk.img s3://bucket/images/ --limit-rate 2MB/s
#
# Each try goes on where the last one ended. The limits: TRIES, how often at most; FIRST_PAUSE and LAST_PAUSE, seconds
# between two tries, doubled each time from the first to the last.
set -eu

file=${1:?say which file to upload}
destination=${2:-local:}
if [ $# -gt 2 ]; then shift 2; else shift $#; fi
tries=${TRIES:-20}
pause=${FIRST_PAUSE:-5}
longest=${LAST_PAUSE:-300}

attempt=1
while :; do
    status=0
    jettyctl upload "$file" "$destination" "$@" || status=$?
    case $status in
        0) exit 0 ;;
        5 | 75) ;;                # network, or stopped: what was sent is kept
        *) exit "$status" ;;      # another try would end the same way; 130 is Ctrl-C, which means you
    esac
    if [ "$attempt" -ge "$tries" ]; then
        echo "gave up after $attempt tries" >&2
        exit "$status"
    fi
    echo "try $attempt ended with status $status; once more in $pause s" >&2
    sleep "$pause"
    attempt=$((attempt + 1))
    pause=$((pause * 2))
    if [ "$pause" -gt "$longest" ]; then pause=$longest; fi
done
