// Package droplog says what was denied and why, and what the default action Audit let
// pass. It listens to the packets that the rules hand to an NFLOG group, asks the program in force
// what it says of them, and writes a line for each and counts them by policy. It
// keeps nothing waiting: what it cannot take in time is counted as lost.
package droplog
