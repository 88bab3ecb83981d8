//go:build !linux

package network

import "testing"

func kill(t *testing.T, _ [4]byte, _ int) { t.Skip("NOT CHECKED: dead addresses, which need Linux") }
