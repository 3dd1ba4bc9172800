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
  # Megabytes of lines that would steer a terminal.
  flood = attack "flood" ''
    yes "$(printf '\033[2J\033]0;flood\007')flood" | head -c 3000000
    exit 1
  '';

  # The same as a single line.
  line = attack "line" "tr '\\0' x < /dev/zero | head -c 3000000; echo; echo end; exit 1";
}
