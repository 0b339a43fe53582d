package government.digital_test

import rego.v1

import data.government.digital

good := {
	"action": "service_request",
	"user": {"role": "citizen"},
	"data_encrypted": true,
	"audit": {"enabled": true},
}

stranger := {"the user is no citizen"}

# What is sent, and what has to come of it.
cases := {
	"allowed": {"input": good, "allow": true, "deny": set(), "decision": true},
	"other action": case([set_to("/action", "read_archive")], false, set(), false),
	"no citizen": case([set_to("/user/role", "clerk")], false, stranger, false),
	"no citizen, other action": case([set_to("/user/role", "clerk"), set_to("/action", "x")], false, stranger, false),
	"no user": case([{"op": "remove", "path": "/user"}], false, stranger, false),
	"in clear text": case([set_to("/data_encrypted", false)], false, set(), false),
	"encrypted, as text": case([set_to("/data_encrypted", "false")], false, set(), false),
	"no audit": case([set_to("/audit/enabled", false)], false, set(), false),
	"audit not known": case([{"op": "remove", "path": "/audit"}], false, set(), false),
	"nothing at all": {"input": {}, "allow": false, "deny": stranger, "decision": false},
}

set_to(path, value) := {"op": "replace", "path": path, "value": value}

case(changes, allow, deny, decision) := {
	"input": json.patch(good, changes),
	"allow": allow,
	"deny": deny,
	"decision": decision,
}

right contains name if {
	some name, one in cases
	digital.allow == one.allow with input as one.input
	digital.deny == one.deny with input as one.input
	digital.decision == one.decision with input as one.input
}

test_cases if {
	wrong := object.keys(cases) - right
	print("wrong:", wrong)
	wrong == set()
}

# No input is both: the rules exclude each other. `decision` must hold to it if one of them changes.
test_denied_while_allowed if {
	not digital.decision with input as cases["no citizen"].input with data.government.digital.allow as true
	digital.decision with input as {"user": {"role": "citizen"}} with data.government.digital.allow as true
}
