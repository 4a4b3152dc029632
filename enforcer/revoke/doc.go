// Package revoke cuts the connections that a program no longer allows, and only
// these. Which ones a change can have denied is worked out from the change (Affected),
// they are looked up in the kernel's connection tracking, judged anew, and what is
// denied is deleted there, so that the next packet is one of no connection.
package revoke
