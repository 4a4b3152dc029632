// Package transition says what is different between two programs, and what that means for
// a packet that is judged while a backend goes from one to the other. It knows no
// backend.
package transition
