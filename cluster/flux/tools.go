//go:build tools

// Package tools pins the parts of Flux that the tests run; go.sum holds their hashes.
package tools

import (
	_ "github.com/fluxcd/kustomize-controller"
	_ "github.com/fluxcd/source-controller"
)
