"""What users write and read: spec, status, conditions, and the CRD made from them. Pure.

- `spec`        the NixImage's spec, bounds and all
- `status`      the NixImage's status and its conditions
- `base_image`  what an image builds upon
- `image`       the object as a whole: metadata, spec, status
- `build`       what passes between operator, `build` and `publish`, and the input hash
- `crd`         models to a CustomResourceDefinition
- `canonical`   JSON with one spelling, for hashes
"""
