//go:build programs

// Package programs names what is built, so that go.mod and go.sum hold what it needs.
package programs

import (
	_ "github.com/open-policy-agent/gatekeeper/v3"
)
