package compile

// LeftAtMost lets tests have policies put back sooner.
var LeftAtMost = &leftAtMost

// LowerBudgets has budgets that ordinary policies of tests exceed, until the function that it returns is called.
func LowerBudgets() (undo func()) {
	before := limits
	limits = budgetLimits{policySets: 2, classSets: 1, namespaceSets: 3, nodeSets: 2, usualSets: 0, classSize: 14, namespaceSize: 40, nodeSize: 14}
	return func() { limits = before }
}
