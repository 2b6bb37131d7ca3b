#!/usr/bin/env bash
# A walk through the four endpoints of the control plane with curl: an upload that goes past the service, and is told to it.
#
#     export JETTY_URL=http://127.0.0.1:53777
#     read -rs JETTY_KEY && export JETTY_KEY      # a key of `jettyctl keys create`
#     bash examples/four-endpoints.sh FILE
#
# Each answer is a line of JSON on standard output; standard error says what was asked. No byte of FILE is sent anywhere.
set -euo pipefail

file=${1:?say which file}
: "${JETTY_URL:?say where the control plane is}" "${JETTY_KEY:?a key is needed}"

# call METHOD PATH [BODY]: the answer, on standard output and in $answer. The key is in no argument: all users can see those.
call() {
    echo "== $1 $2" >&2
    answer=$(curl --silent --show-error --fail-with-body --max-time 30 --request "$1" "${JETTY_URL%/}/api/jetty/$2" \
        --header @<(printf 'Authorization: Bearer %s\n' "$JETTY_KEY") \
        --header 'Content-Type: application/json' ${3:+--data-binary "$3"}) || { echo "$answer" >&2; exit 1; }
    echo "$answer"
}

# text NAME: the first text of that name in the last answer. Real programs parse the JSON.
text() {
    sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" <<< "$answer"
}

name=$(basename -- "$file" | tr -d '"\\[:cntrl:]')
size=$(($(wc -c < "$file")))
hash="sha256:$(sha256sum < "$file" | cut -d ' ' -f 1)"

call GET service
user=$(text userId)

# 1. How is it best sent, by which edges, and does the user have it already?
call POST optimal-edges "{\"userId\": \"$user\", \"fileName\": \"$name\", \"fileSize\": $size, \"fileHash\": \"$hash\", \"priority\": \"speed\"}"

# 2. The same question alone.
call POST check-duplicate "{\"userId\": \"$user\", \"fileHash\": \"$hash\"}"
if [[ $answer == *'"isDuplicate":true'* ]]; then
    echo "$name was uploaded before" >&2
    exit 0
fi

# 3. An upload begins. Here, for brevity, it is a single chunk.
call POST track-upload "{\"action\": \"start\", \"userId\": \"$user\", \"fileName\": \"$name\", \"fileSize\": $size, \"fileHash\": \"$hash\", \"chunksTotal\": 1, \"uploadVia\": \"api\"}"
session=$(text sessionId)

# 4. The client sends the chunk to the store, and says so. Who goes on with the session asks which chunks are there.
call POST cache-chunk "{\"sessionId\": \"$session\", \"chunkIndex\": 0, \"status\": \"completed\", \"chunkHash\": \"$hash\", \"bytesUploaded\": $size}"
call GET "cache-chunk?sessionId=$session"

# 5. It goes on, and ends; from now on the content is known.
call POST track-upload "{\"action\": \"progress\", \"sessionId\": \"$session\", \"chunksCompleted\": 1, \"bytesUploaded\": $size}"
call POST track-upload "{\"action\": \"complete\", \"sessionId\": \"$session\"}"
call POST check-duplicate "{\"userId\": \"$user\", \"fileHash\": \"$hash\"}"
