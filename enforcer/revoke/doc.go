// Package revoke cuts the connections that a program no longer allows, and only these. It derives from a change which
// connections can be denied now (Affected), looks them up in the kernel's connection tracking, evaluates them again, and
// deletes the entries of those that are denied, so that their next packet belongs to no connection.
package revoke
