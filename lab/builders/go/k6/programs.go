//go:build programs

// Package programs names what is built, so that go.mod and go.sum hold what it needs.
package programs

import (
	_ "go.k6.io/k6"
)
