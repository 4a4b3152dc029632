// Package nfnetlink encodes transactions for nf_tables in the kernel's wire format, carries them out, and reads rules.
//
// It knows tables, chains, rules and sets as the kernel does, and nothing of policies. A transaction is a Batch; what it
// contains beyond chains and sets are Expressions (rules) and elements of a KeyType. Socket commits a Batch at one
// generation of the kernel's tables. Callers fall back to the program nft for what it cannot encode.
package nfnetlink
