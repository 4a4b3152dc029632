// Package iptables enforces a policy.Program with iptables and ipset.
//
// Render is pure: it turns a program into the chains and sets of one IP family.
// Backend brings the kernel there. At no moment does a flow pass that is denied before and after a change, or a flow
// break that is allowed before and after. docs/design/iptables.md says how and why.
package iptables
