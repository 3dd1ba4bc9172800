# Which derivations the requested packages of a source are, or what is wrong with each.
#
# Called by niximage.nix.evaluate with one JSON document, so that names enter as data and are
# never read as code. Nothing is built, and neither NIX_PATH nor channels nor the user's
# configuration are looked at. Works with Nix 2.8 and later.
#
# The request:
#   source    absolute path of the file or folder to import
#   attr      attribute path, as a list, of the value in it that holds the packages
#   system    what to build for, for example "x86_64-linux"
#   config    nixpkgs' configuration, for sources that take one
#   guard     whether to report throws, or to let them end the evaluation with their message
#   packages  list of { path = attribute path as a list; outputs = null | ["*"] | names; }
#
# The answer:
#   source    { status = "ok" | "missing" | "not-a-set"; at; type; takesConfig; }
#   packages  for each request, in order:
#             { status = "ok"; derivation; outputs; chosen = [ { name; path; } ]; runsOn; }
#             { status = "missing"; at; }           `at`: how far the path leads to a set
#             { status = "not-a-derivation"; type; }
#             { status = "no-such-output"; wrong; outputs; }
#             { status = "throws"; }
#   names     for each `at` of a missing package, dotted, the attribute names that are there
{ request }:

let
  inherit (builtins)
    concatStringsSep deepSeq elem filter functionArgs getAttr hasAttr head intersectAttrs isAttrs
    isFunction listToAttrs replaceStrings tail toXML tryEval typeOf unsafeDiscardStringContext;

  asked = builtins.fromJSON request;

  guarded = value:
    if asked.guard then tryEval value else { success = true; inherit value; };

  # nixpkgs' call signature; a source takes of it what it names.
  arguments = {
    inherit (asked) system config;
    overlays = [ ];
  };

  # Only toXML tells `{ }:` from `{ ... }:` and from `x:`; functionArgs is empty for all three.
  takesAnything = function:
    let xml = toXML function;
    in replaceStrings [ "ellipsis=\"1\"" "<varpat " ] [ "" "" ] xml != xml;

  argumentsFor = function:
    if takesAnything function then arguments
    else intersectAttrs (functionArgs function) arguments;

  call = value: if isFunction value then value (argumentsFor value) else value;

  takesConfig = value: isFunction value && hasAttr "config" (argumentsFor value);

  # Follows a path as far as sets go.
  walk = seen: value: rest:
    let
      here = guarded value;
      name = head rest;
      isSet = isAttrs here.value;
    in
    if !here.success then { status = "throws"; }
    else if rest == [ ] then { status = "found"; value = here.value; }
    else if !isSet || !hasAttr name here.value then {
      status = "missing";
      at = seen;
      names = if isSet then builtins.attrNames here.value else [ ];
    }
    else walk (seen ++ [ name ]) (getAttr name here.value) (tail rest);

  imported = import (/. + asked.source);

  source = walk [ ] (call imported) asked.attr;

  packageSet = call source.value;

  sourceStatus =
    if source.status != "found" then source
    else if !isAttrs packageSet then { status = "not-a-set"; type = typeOf packageSet; }
    else { status = "ok"; takesConfig = takesConfig imported || takesConfig source.value; };

  isDerivation = value: isAttrs value && (value.type or null) == "derivation";

  # What nix itself takes of a package of which no output is named.
  defaultOutputs = package:
    if package.outputSpecified or false then [ package.outputName ]
    else package.meta.outputsToInstall or [ (package.outputName or "out") ];

  # What its programs run on, as far as it says: nixpkgs tells that from what builds them.
  runsOn = package:
    let builtOn = package.system or asked.system;
    in if builtOn == asked.system then builtOn
    else package.stdenv.hostPlatform.system or builtOn;

  describe = package: wanted:
    let
      outputs = package.outputs or [ "out" ];
      chosen =
        if wanted == null then defaultOutputs package
        else if wanted == [ "*" ] then outputs
        else wanted;
      wrong = filter (name: !elem name outputs) chosen;
      pathOf = name: unsafeDiscardStringContext
        (if hasAttr name package then getAttr name package else package).outPath;
    in
    if wrong != [ ] then { status = "no-such-output"; inherit wrong outputs; }
    else {
      status = "ok";
      derivation = unsafeDiscardStringContext package.drvPath;
      inherit outputs;
      chosen = map (name: { inherit name; path = pathOf name; }) chosen;
      runsOn = runsOn package;
    };

  report = { path, outputs }:
    let
      found = walk [ ] packageSet path;
      result =
        if found.status != "found" then found
        else if !isDerivation found.value then {
          status = "not-a-derivation";
          type = typeOf found.value;
        }
        else describe found.value outputs;
      whole = guarded (deepSeq result result);
    in
    if whole.success then whole.value else { status = "throws"; };

  reports = if sourceStatus.status == "ok" then map report asked.packages else [ ];

  missing = filter (each: each.status == "missing") (reports ++ [ sourceStatus ]);
in
{
  source = removeAttrs sourceStatus [ "names" "value" ];
  packages = map (each: removeAttrs each [ "names" ]) reports;
  names = listToAttrs (
    map (each: { name = concatStringsSep "." each.at; value = each.names; }) missing
  );
}
