package tierwall.guardrails.roles_by_account_test

import data.tierwall.guardrails.roles_by_account

binding(kind, spec) := {"kind": kind, "metadata": {"name": "r"}, "spec": spec}

test_labels_alone_are_not_enough if {
	some d in roles_by_account.deny with input as {"object": binding("TierRole", {"role": "data", "podSelector": {}})}
	d.msg == "TierRole r gives role data to pods of any service account. Name the service accounts of the pods that are to hold it."
	count(roles_by_account.deny) == 1 with input as {"object": binding("TierRole", {"role": "data", "serviceAccounts": []})}
}

test_service_accounts_are if {
	count(roles_by_account.deny) == 0 with input as {"object": binding("TierRole", {"role": "data", "serviceAccounts": ["db"]})}
}

test_other_roles_and_kinds_are_not_concerned if {
	count(roles_by_account.deny) == 0 with input as {"object": binding("TierRole", {"role": "frontend"})}
	count(roles_by_account.deny) == 0 with input as {"object": binding("Pod", {"role": "data"})}
	count(roles_by_account.deny) == 0 with input as {"object": null}
	count(roles_by_account.deny) == 1 with input as {"object": binding("TierRole", {"role": "vault"}), "parameters": {"roles": ["vault"]}}
}
