#!/bin/sh
# Print every alert of a Langbiang hub, and miss none, with curl and a long poll.
#
#	alerts.sh http://127.0.0.1:8080 alerts.position
#
# Where the hub wants a token, it stands in LANGBIANG_TOKEN; the hub's own authority, for
# https://, in the file that CURL_CA_BUNDLE names.
hub=$1 file=$2
while :; do
	after=$(cat "$file" 2>/dev/null || echo 0)
	if curl -sSf -m 60 ${LANGBIANG_TOKEN:+-H "Authorization: Bearer $LANGBIANG_TOKEN"} -D "$file.head" -o "$file.page" "$hub/api/v1/alerts/events?after=$after&wait=30s"; then
		cat "$file.page" # one event to a line
		tr -d '\r' <"$file.head" | sed -n 's/^[Ll]angbiang-[Pp]osition: //p' >"$file.new" && mv "$file.new" "$file"
	else
		sleep 2
	fi
done
