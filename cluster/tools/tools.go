//go:build tools

// Package tools pins the programs that the tests talk to; go.sum holds their hashes.
package tools

import (
	_ "github.com/fsouza/fake-gcs-server"
	_ "github.com/google/go-containerregistry/cmd/crane"
)
