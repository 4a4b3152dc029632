//go:build netns

package nftables

import (
	"testing"

	"github.com/tierwall/tierwall/enforcer/internal/backendtest"
)

func benchmarkNode(t testing.TB) backendtest.Node[*Backend] { return newNode(t).Node }

func BenchmarkUpdate(b *testing.B) { backendtest.BenchmarkUpdate(b, benchmarkNode, apart) }

func BenchmarkColdStart(b *testing.B) { backendtest.BenchmarkColdStart(b, benchmarkNode) }

func BenchmarkRestart(b *testing.B) { backendtest.BenchmarkRestart(b, benchmarkNode) }

func BenchmarkRepair(b *testing.B) { backendtest.BenchmarkRepair(b, benchmarkNode) }
