//go:build netns

package iptables_test

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
	"github.com/tierwall/tierwall/enforcer/iptables"
)

func benchmarkNode(t testing.TB) backendtest.Node[*iptables.Backend] {
	return newNode(t, iptables.NFT).Node
}

func BenchmarkUpdate(b *testing.B) { backendtest.BenchmarkUpdate(b, benchmarkNode, 0) }

func BenchmarkColdStart(b *testing.B) { backendtest.BenchmarkColdStart(b, benchmarkNode) }

func BenchmarkRestart(b *testing.B) { backendtest.BenchmarkRestart(b, benchmarkNode) }

func BenchmarkRepair(b *testing.B) { backendtest.BenchmarkRepair(b, benchmarkNode) }
