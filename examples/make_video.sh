#!/bin/sh
# A video by curl alone:  make_video.sh URL IMAGE AUDIO OUTPUT
set -eu
url=$1 image=$2 audio=$3 output=$4
auth=${TALKFACE_API_KEY:+Authorization: Bearer $TALKFACE_API_KEY}

# 1. Send. The key makes it safe to send again: --retry-all-errors finds the job of the first try. With `Prefer: wait` the
#    answer comes when the video is ready, or after a minute.
job=$(curl -sS --fail-with-body --retry 5 --retry-all-errors ${auth:+-H "$auth"} \
    -H "Idempotency-Key: $(date +%s)-$$" -H 'Prefer: wait=60' \
    -F preset=preview -F "image=@$image" -F "audio=@$audio" "$url/v1/talking-face")
id=$(printf %s "$job" | sed 's/.*"id": *"\([0-9a-f]\{32\}\)".*/\1/' | head -n 1)

# 2. Wait, where a minute was not enough.
while :; do
    case $job in
    *'"state":"succeeded"'*) break ;;
    *'"state":"failed"'* | *'"state":"cancelled"'*) printf '%s\n' "$job" >&2; exit 1 ;;
    esac
    job=$(curl -sS --fail-with-body --retry 5 --retry-all-errors ${auth:+-H "$auth"} "$url/v1/jobs/$id?wait=30")
done

# 3. Save.
curl -sS --fail-with-body --retry 5 ${auth:+-H "$auth"} -o "$output" "$url/v1/jobs/$id/content"
