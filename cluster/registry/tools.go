//go:build tools

// Package tools pins CNCF Distribution; on its own, so that its dependencies are those of its release.
package tools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
)
