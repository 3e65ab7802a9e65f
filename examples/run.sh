#!/bin/sh
# Shows hub-lite at work: packs an example, runs it on a week of real earthquakes and checks what comes out.
# Needs scramjet-pack and hub-lite on PATH; `make run` sees to that. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."

for command in scramjet-pack hub-lite; do
    command -v "$command" >/dev/null || {
        echo "examples/run.sh: $command is not on PATH; start this with 'make run'" >&2
        exit 1
    }
done

say() {
    printf '\n%s\n\n' "$1"
}

# Shows a command line and runs exactly that line.
run() {
    printf '$ %s\n' "$1"
    eval "$1"
}

tmp=
trap 'rm -rf "$tmp"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say "A week of earthquakes, as the USGS published it, one a line (cut at 100 characters here):"
run 'head -n 3 examples/data/earthquakes.ndjson | cut -c 1-100'

say "examples/earthquakes/main.py is a function over that stream. It becomes a package:"
run 'tmp=$(mktemp -d)'
run 'scramjet-pack examples/earthquakes -o "$tmp/earthquakes.tar.gz"'

say "A hub starts, takes the package and runs it on the stream. Each day's line comes as soon as the day is over:"
run 'hub-lite run "$tmp/earthquakes.tar.gz" --input examples/data/earthquakes.ndjson --args "[4.5]" | tee "$tmp/week.ndjson"'

say "Is it what it should be?"
run 'cmp "$tmp/week.ndjson" examples/data/earthquakes.expected.ndjson && echo "Yes, byte for byte."'

cat <<'NEXT'

Next, keep a hub running and speak HTTP with it:

  PATH=$PWD/.venv/bin:$PATH
  hub-lite start                                       # in a terminal of its own; it listens on 127.0.0.1:8000
  api=http://127.0.0.1:8000/api/v1
  scramjet-pack examples/shout -o /tmp/shout.tar.gz
  curl -H content-type:application/octet-stream --data-binary @/tmp/shout.tar.gz $api/sequence
                                                       # answers the id of the Sequence
  curl -H content-type:application/json -d '{}' $api/sequence/ID_OF_THE_SEQUENCE/start
                                                       # answers the id of the Instance
  echo 'hello, hub' | curl -H content-type:text/plain --data-binary @- $api/instance/ID_OF_THE_INSTANCE/input
  curl -N $api/instance/ID_OF_THE_INSTANCE/output      # HELLO, HUB!

examples/README.md lists the other examples.
NEXT
