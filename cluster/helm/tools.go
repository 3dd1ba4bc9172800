//go:build tools

// Package tools pins Helm; on its own, so that its dependencies are those of its release.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
