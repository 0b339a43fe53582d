package education.learning_test

import rego.v1

import data.education.learning

good := {
	"action": "read_progress",
	"user": {"id": "s-1", "role": "student"},
	"course": {"enrolled": true},
	"progress": {"user_id": "s-1"},
}

anothers := {"the progress is another user's"}

# What is sent, and what has to come of it.
cases := {
	"allowed: read": {"input": good, "allow": true, "deny": set(), "decision": true},
	"allowed: update": case([set_to("/action", "update_progress")], true, set(), true),
	"other action": case([set_to("/action", "delete_progress")], false, set(), false),
	"other action, another's progress": case(
		[set_to("/action", "list_courses"), set_to("/user/id", "s-2")],
		false, set(), false,
	),
	"no student": case([set_to("/user/role", "guest")], false, set(), false),
	"not enrolled": case([set_to("/course/enrolled", false)], false, set(), false),
	"enrolled, as text": case([set_to("/course/enrolled", "false")], false, set(), false),
	"another's progress": case([set_to("/progress/user_id", "s-2")], false, anothers, false),
	"another's progress, to change it": case(
		[set_to("/action", "update_progress"), set_to("/progress/user_id", "s-2")],
		false, anothers, false,
	),
	"nobody's progress": case([{"op": "remove", "path": "/progress"}], false, anothers, false),
	"empty ids": case([set_to("/user/id", ""), set_to("/progress/user_id", "")], false, anothers, false),
	"ids that are no text": case([set_to("/user/id", null), set_to("/progress/user_id", null)], false, anothers, false),
	"nothing at all": {"input": {}, "allow": false, "deny": set(), "decision": false},
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
	learning.allow == one.allow with input as one.input
	learning.deny == one.deny with input as one.input
	learning.decision == one.decision with input as one.input
}

test_cases if {
	wrong := object.keys(cases) - right
	print("wrong:", wrong)
	wrong == set()
}

# No input is both: the rules exclude each other. `decision` must hold to it if one of them changes.
test_denied_while_allowed if {
	not learning.decision with input as cases["another's progress"].input with data.education.learning.allow as true
	learning.decision with input as {} with data.education.learning.allow as true
}
