#!/bin/sh
# Run a part of the checks and say how long it took: timed.sh NAME COMMAND...
# With the environment variable TIMES, the line goes to the end of that file, too.
name=$1
shift
began=$(date +%s)
"$@"
code=$?
line="$name: $(($(date +%s) - began)) s"
[ $code = 0 ] || line="$line, failed"
echo "== $line"
[ -z "${TIMES:-}" ] || echo "$line" >>"$TIMES"
exit $code
