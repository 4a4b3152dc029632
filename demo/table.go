package main

import (
	"fmt"
	"strings"

	"github.com/tierwall/tierwall/test/shop"
)

// printTable shows who reaches whom, and how many of the pairs do.
func printTable(pods []shop.Workload, r shop.Reachability) {
	fmt.Printf("\n   %-16s", "from \\ to")
	for _, to := range pods {
		fmt.Printf("%-15s", to)
	}
	open, pairs := 0, 0
	sources := []string{"outside"}
	for _, w := range pods {
		sources = append(sources, w.String())
	}
	for _, from := range sources {
		fmt.Printf("\n   %-16s", from)
		for _, to := range pods {
			if from == to.String() {
				fmt.Printf("%-15s", "")
				continue
			}
			mark, isOpen := cell(r[from], to)
			fmt.Print(mark)
			pairs++
			if isOpen {
				open++
			}
		}
	}
	fmt.Printf("\n   %s\n", faint(fmt.Sprintf("%d of %d pairs reach each other, over IPv4 and IPv6 alike unless marked 4 or 6", open, pairs)))
}

// cell is the mark of a pair, fifteen characters wide.
func cell(from map[string]bool, to shop.Workload) (string, bool) {
	var families []string
	for i, t := range to.Targets() {
		if from[t] {
			families = append(families, []string{"4", "6"}[i%2])
		}
	}
	switch len(families) {
	case 0:
		return faint(fmt.Sprintf("%-15s", "·")), false
	case len(to.Addrs):
		return green(fmt.Sprintf("%-15s", "reaches")), true
	default:
		return fmt.Sprintf("%-15s", strings.Join(families, "")), true
	}
}
