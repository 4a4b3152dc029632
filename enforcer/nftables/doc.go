// Package nftables enforces a policy.Program with nftables.
//
// Render is pure: it turns a program into the chains, maps and sets of one
// table. Backend brings the kernel there, and from one program to the next by
// what is different, without a moment in which a flow that is denied before and
// after could pass, or one that is allowed before and after could break.
// What the kernel is asked without the program nft is encoded by package nfnetlink.
//
// docs/design/nftables.md says how and why.
package nftables
