// Package cni is what the node's CNI plugin and the node agent say to each other: one request
// and one answer for each connection to a socket that belongs to root, as lines of JSON.
package cni
