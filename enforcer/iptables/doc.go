// Package iptables enforces a policy.Program with iptables and ipset.
//
// Render is pure: it turns a program into the chains and sets of one IP family.
// Backend brings the kernel there without a moment in which a flow that is
// denied before and after could pass, or one that is allowed before and after
// could break. docs/design/iptables.md says how and why.
package iptables
