package manufacturing.smart_test

import rego.v1

import data.manufacturing.smart

good := {"action": "process_data", "data_stays_local": true}

leaves := {"the data would leave the site"}

# What is sent, and what has to come of it.
cases := {
	"allowed": {"input": good, "allow": true, "deny": set(), "decision": true},
	"other action": case([set_to("/action", "delete_data")], false, set(), false),
	"data does not stay": case([set_to("/data_stays_local", false)], false, set(), false),
	"stays, as text": case([set_to("/data_stays_local", "false")], false, set(), false),
	"nobody says whether it stays": case([{"op": "remove", "path": "/data_stays_local"}], false, set(), false),
	"away: neither allowed nor denied when local": case([set_to("/action", "export"), to("local")], false, set(), false),
	"away": case([set_to("/action", "export"), to("cloud")], false, leaves, false),
	"away, nobody says where to": case([set_to("/action", "export")], false, leaves, false),
	"away, in other letters": case([set_to("/action", "export"), to("Local")], false, leaves, false),
	"nothing at all": {"input": {}, "allow": false, "deny": set(), "decision": false},
}

set_to(path, value) := {"op": "replace", "path": path, "value": value}

to(destination) := {"op": "add", "path": "/destination", "value": destination}

case(changes, allow, deny, decision) := {
	"input": json.patch(good, changes),
	"allow": allow,
	"deny": deny,
	"decision": decision,
}

right contains name if {
	some name, one in cases
	smart.allow == one.allow with input as one.input
	smart.deny == one.deny with input as one.input
	smart.decision == one.decision with input as one.input
}

test_cases if {
	wrong := object.keys(cases) - right
	print("wrong:", wrong)
	wrong == set()
}

# No input is both: the rules exclude each other. `decision` must hold to it if one of them changes.
test_denied_while_allowed if {
	not smart.decision with input as cases.away.input with data.manufacturing.smart.allow as true
	smart.decision with input as {} with data.manufacturing.smart.allow as true
}
