# A small package set with nixpkgs' call signature, for the demo and the tests.
#
# Everything is built offline, without a sandbox and without root, from one static busybox:
# `./make-repository` lays it, with its applets, into ./bootstrap. A builder is always called
# through an applet's name, because busybox looks at how it is called.
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:

let
  bootstrap = ./bootstrap;

  # Written into every greeting, so that a new revision of the set gives new packages.
  edition = builtins.replaceStrings [ "\n" ] [ "" ] (builtins.readFile ./edition);

  # A derivation from a shell script; `exit 0` ends it, so that the last command is never
  # exec'd in place of the shell and its early end is never taken for the builder's.
  build = { name, version ? "1.0", script, meta ? { }, ... }@args:
    let
      package = derivation (
        removeAttrs args [ "name" "version" "script" "meta" ] // {
          name = "${name}-${version}";
          inherit system;
          builder = "${bootstrap}/bin/sh";
          args = [ "-eu" "-c" (script + "\nexit 0\n") ];
          PATH = "${bootstrap}/bin";
        }
      );
      outputs = args.outputs or [ "out" ];
    in
    package // {
      inherit version outputs;
      pname = name;
      meta = { description = name; outputsToInstall = [ (builtins.head outputs) ]; } // meta;
    };

  # A program for /bin: a shell script that the set's own shell runs.
  program = name: version: text: build {
    inherit name version text;
    script = ''
      mkdir -p "$out/bin"
      printf '#!%s\n%s' "${shell}/bin/sh" "$text" > "$out/bin/${name}"
      chmod +x "$out/bin/${name}"
    '';
  };

  # A package that nixpkgs' checks refuse, in nixpkgs' words, once it is looked at.
  refused = name: why:
    let
      refusal = throw ''
        Package ‘${name}’ in default.nix:25 ${why}, refusing to evaluate.

        a) To temporarily allow it, you can use an environment variable
           for a single invocation of the nix tools.'';
    in
    {
      type = "derivation";
      inherit name;
      outputs = [ "out" ];
      outputName = "out";
      meta = { };
      drvPath = refusal;
      outPath = refusal;
    };

  shell = build {
    name = "shell";
    version = "1.36";
    script = ''
      mkdir -p "$out/bin"
      cp ${bootstrap}/bin/busybox "$out/bin/busybox"
      for applet in ${bootstrap}/bin/*; do
        name=''${applet##*/}
        [ "$name" = busybox ] || ln -s busybox "$out/bin/$name"
      done
    '';
  };

  # A library that two programs share.
  banner = build {
    name = "banner";
    version = "2.1";
    script = ''
      mkdir -p "$out/lib"
      printf '%s\n' 'banner() { echo "== $* =="; }' > "$out/lib/banner.sh"
    '';
  };

  # Data that depends on the edition: what changes when the set moves on.
  greeting-data = build {
    name = "greeting-data";
    inherit edition;
    script = ''
      mkdir -p "$out/share/greeting"
      echo "Hello from Nix on Kubernetes!" > "$out/share/greeting/text"
      echo "$edition" > "$out/share/greeting/edition"
    '';
  };

  hello = program "hello" "2.12" ''
    if [ "''${1:-}" = --version ]; then
      echo "hello 2.12 ($(${shell}/bin/cat ${greeting-data}/share/greeting/edition))"
    else
      ${shell}/bin/cat ${greeting-data}/share/greeting/text
    fi
  '';

  cowsay = program "cowsay" "3.8" ''
    . ${banner}/lib/banner.sh
    banner "''${*:-$(${shell}/bin/cat ${greeting-data}/share/greeting/text)}"
    echo '   \   ^__^'
    echo '    \  (oo)'
  '';

  tools = {
    recurseForDerivations = true;
    upper = program "upper" "1.0" "${shell}/bin/tr a-z A-Z\n";
    lower = program "lower" "1.0" "${shell}/bin/tr A-Z a-z\n";
    # A set within a set.
    text.reverse = program "reverse" "1.0" "${shell}/bin/tac\n";
  };

  # Several outputs, of which two are installed by default.
  manual = build {
    name = "manual";
    version = "4.2";
    outputs = [ "out" "doc" "dev" ];
    meta.outputsToInstall = [ "out" "doc" ];
    script = ''
      mkdir -p "$out/bin" "$doc/share/doc/manual" "$dev/include"
      printf '#!%s\ncat %s/share/doc/manual/index.txt\n' "${shell}/bin/sh" "$doc" > "$out/bin/manual"
      chmod +x "$out/bin/manual"
      echo "read me" > "$doc/share/doc/manual/index.txt"
      echo "#define MANUAL 42" > "$dev/include/manual.h"
    '';
  };

  cacert = build {
    name = "cacert";
    version = "3.108";
    script = ''
      mkdir -p "$out/etc/ssl/certs"
      {
        echo "-----BEGIN CERTIFICATE-----"
        echo "no certificate: the demo trusts nobody" | base64
        echo "-----END CERTIFICATE-----"
      } > "$out/etc/ssl/certs/ca-bundle.crt"
    '';
  };

  # Eight megabytes that compress by about a half and are the same on every machine.
  dataset = build {
    name = "dataset";
    script = ''
      mkdir -p "$out/share/dataset"
      awk 'BEGIN { s = 1
        for (i = 0; i < 1000000; i++) { s = (s * 16807) % 2147483647; printf "%08x", s }
      }' > "$out/share/dataset/numbers"
    '';
  };

  # Builds for as long as the tests need something to interrupt.
  slow = build {
    name = "slow";
    script = ''
      i=0
      while [ "$i" -lt 12 ]; do
        echo "second $i of 12"
        sleep 1
        i=$((i + 1))
      done
      mkdir -p "$out"
    '';
  };

  broken-build = build {
    name = "broken-build";
    script = ''
      echo "configure: checking for a reason to go on"
      echo "make: *** [Makefile:7: all] Error 3: the demo breaks here" >&2
      exit 3
    '';
  };

  # Sound itself, but made of something that does not build.
  needs-broken = program "needs-broken" "1.0" "${broken-build}/bin/nothing\n";

  # A download whose content is not what its hash says.
  wrong-hash = derivation {
    name = "wrong-hash-1.0";
    inherit system;
    builder = "${bootstrap}/bin/sh";
    args = [ "-c" "echo other content > $out; exit 0" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000000";
  };

  # nixpkgs' three questions to its configuration.
  unfree-tool =
    if config.allowUnfree or false then program "unfree-tool" "6.1.7" "echo not free\n"
    else refused "unfree-tool-6.1.7" "has an unfree license (‘unfree’)";

  insecure-tool =
    if builtins.elem "insecure-tool-1.0.2u" (config.permittedInsecurePackages or [ ])
    then program "insecure-tool" "1.0.2u" "echo not secure\n"
    else refused "insecure-tool-1.0.2u" "is marked as insecure";

  marked-broken =
    if config.allowBroken or false then program "marked-broken" "0.1" "echo not broken\n"
    else refused "marked-broken-0.1" "is marked as broken";

  throws = throw "'throws' has been removed, as nobody maintained it. Use 'hello' instead";

  aborts = abort "this attribute ends every evaluation";

  # Both bring /bin/greet.
  greet-loudly = program "greet" "1.0" "echo HELLO\n" // { pname = "greet-loudly"; };
  greet-softly = program "greet" "1.1" "echo hello\n" // { pname = "greet-softly"; };

  packages = {
    inherit
      shell banner greeting-data hello cowsay tools manual cacert dataset slow broken-build
      needs-broken wrong-hash unfree-tool insecure-tool marked-broken throws aborts greet-loudly
      greet-softly;
    # No package, as nixpkgs' `lib` is none.
    lib.version = "26.05";
  };
in
builtins.foldl' (set: overlay: set // overlay set set) packages overlays
