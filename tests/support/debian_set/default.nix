# Real programs as a package set with nixpkgs' call signature: Debian's, unpacked and patched, so
# that they find their libraries in the store, and closures have the references of real ones.
#
# `make.py` lays next to this file: bootstrap/ (a static busybox with its applets), debs/, and
# debs.json, which tells for each package what it is unpacked from and which libraries it needs.
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:

let
  inherit (builtins) concatMap fromJSON getAttr map mapAttrs readFile;

  debian = fromJSON (readFile ./debs.json);
  inherit (debian) triplet loader packages;

  # `exit 0`: the last command must not be exec'd in place of the shell, see the demo's set.
  build = name: version: script: variables:
    derivation ({
      name = "${name}-${version}";
      inherit system;
      builder = "${./bootstrap}/bin/sh";
      args = [ "-eu" "-c" (script + "\nexit 0\n") ];
      PATH = "${./bootstrap}/bin";
    } // variables)
    // {
      pname = name;
      inherit version;
      meta = { description = "Debian's ${name}"; outputsToInstall = [ "out" ]; };
    };

  # A file of its own in the store for each .deb: a set that moves on keeps what it has.
  filesOf = package: map (file: ./. + "/debs/${file}") package.files;

  # What Debian has below /usr and beside it, in one place, as Nix packages have it.
  unpack = ''
    mkdir "$TMPDIR/root" "$out"
    for deb in $debs; do
      ar p "$deb" data.tar.xz | unxz | tar -x -C "$TMPDIR/root"
    done
    [ ! -d "$TMPDIR/root/usr" ] || cp -a "$TMPDIR/root/usr/." "$out"
    rm -rf "$TMPDIR/root/usr" "$TMPDIR/root/lib64"
    cp -a "$TMPDIR/root/." "$out"
    cd "$out"
    for folder in bash-completion bug doc doc-base info lintian locale man; do
      rm -rf "share/$folder"
    done
    find . -type l | while read -r link; do
      case $(readlink "$link") in
        /usr/*) ln -sfn "$out/$(readlink "$link" | cut -c 6-)" "$link" ;;
        /*) ln -sfn "$out$(readlink "$link")" "$link" ;;
      esac
      [ -e "$link" ] || rm "$link"
    done
    rmdir lib64 2>/dev/null || :
  '';

  unpatched = name:
    build name packages.${name}.version unpack { debs = filesOf packages.${name}; };

  libc = unpatched "libc6";

  # Debian's own patchelf, called by its loader.
  patchelf =
    let libraries = map unpatched ([ "libc6" ] ++ packages.patchelf.needs);
    in "${libc}/lib/${triplet}/${loader} --library-path "
    + builtins.concatStringsSep ":" (map (library: "${library}/lib/${triplet}") libraries)
    + " ${unpatched "patchelf"}/bin/patchelf";

  patch = ''
    libraries=
    for library in $needs; do
      libraries=$libraries:$library/lib/${triplet}
    done
    find . -type f \( -name '*.so*' -o -perm -100 \) | while read -r file; do
      [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
      chmod u+w "$file"
      own=$(${patchelf} --print-rpath "$file" | sed "s|/usr/|$out/|g")
      ${patchelf} --set-rpath "$out/lib/${triplet}$libraries''${own:+:$own}" "$file"
      if ${patchelf} --print-interpreter "$file" >/dev/null 2>&1; then
        ${patchelf} --set-interpreter ${libc}/lib/${triplet}/${loader} "$file"
      fi
    done
  '';

  unpacked = mapAttrs
    (name: package:
      if name == "libc6" then libc
      else build name package.version (unpack + patch) {
        debs = filesOf package;
        needs = map (need: getAttr need unpacked) package.needs;
      })
    packages;

  set = unpacked // {
    nix = unpacked.nix-bin;

    # Debian makes the bundle on the machine itself.
    cacert = build "cacert" packages.ca-certificates.version ''
      mkdir -p "$out/etc/ssl/certs"
      cat ${unpacked.ca-certificates}/share/ca-certificates/mozilla/*.crt \
        > "$out/etc/ssl/certs/ca-bundle.crt"
    '' { };
  };
in
builtins.foldl' (before: overlay: before // overlay before before) set overlays
