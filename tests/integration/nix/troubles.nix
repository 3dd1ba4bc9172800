# One package for each thing that can be wrong with one; `fine` has nothing wrong.
{ system, ... }:

let
  fine = derivation { name = "fine"; inherit system; builder = "/none"; };
  generated = derivation { name = "generated"; inherit system; builder = "/none"; };
in
{
  inherit fine;
  sets.tools = { upper = fine; lower = fine; };

  # No packages.
  function = { x }: x;
  list = [ fine ];
  nothing = null;
  number = 42;
  switch = true;
  text = "fine";

  # Outputs.
  no-outputs = fine // { outputs = [ ]; meta.outputsToInstall = [ ]; };
  other-output = fine // { meta.outputsToInstall = [ "bin" ]; };

  # What can be caught.
  thrown = throw "'thrown' was renamed to 'fine'";
  thrown-late = fine // { drvPath = throw "no longer built"; };
  asserted = assert system == "none"; fine;

  # What nothing catches.
  aborted = abort "stop here";
  recursive = let x = x; in x;
  bottomless = let f = n: 1 + f (n + 1); in f 0;
  lacking-argument = ({ needed }: needed) { };
  excess-argument = ({ }: fine) { excess = 1; };
  lacking-attribute = fine.lib.version;
  wrong-type = 1 + "one";
  no-builder = derivation { name = "no-builder"; inherit system; };
  bad-name = derivation { name = "bad name"; inherit system; builder = "/none"; };
  bad-syntax = import (builtins.toFile "bad.nix" "{ x = ; }");
  absent-file = import ./absent.nix;

  # What an evaluation here may not do.
  from-derivation = import generated;
  reads-derivation = fine // { drvPath = builtins.readFile generated; };
  channel = import <nixpkgs> { };
}
