// Package rulegroup is about rules that follow each other and have one verdict, so that their
// order means nothing and they can be looked up together. It knows no backend.
package rulegroup
