package education.examination_test

import rego.v1

import data.education.examination

good := {
	"action": "take_exam",
	"user": {"role": "student"},
	"exam": {"enrolled": true},
	"anti_cheat": {"enabled": true, "detected": false},
}

cheating := {"anti-cheat has detected cheating"}

# What is sent, and what has to come of it.
cases := {
	"allowed": {"input": good, "allow": true, "deny": set(), "decision": true},
	"allowed: detection says nothing yet": case([{"op": "remove", "path": "/anti_cheat/detected"}], true, set(), true),
	"denied while allowed: cheating": case([set_to("/anti_cheat/detected", true)], true, cheating, false),
	"denied while allowed: cheating, as text": case([set_to("/anti_cheat/detected", "yes")], true, cheating, false),
	"other action": case([set_to("/action", "read_results")], false, set(), false),
	"other action, cheating": case([set_to("/action", "x"), set_to("/anti_cheat/detected", true)], false, set(), false),
	"no student": case([set_to("/user/role", "teacher")], false, set(), false),
	"not enrolled": case([set_to("/exam/enrolled", false)], false, set(), false),
	"enrolled, as text": case([set_to("/exam/enrolled", "false")], false, set(), false),
	"anti-cheat off": case([set_to("/anti_cheat/enabled", false)], false, set(), false),
	"no exam": case([{"op": "remove", "path": "/exam"}], false, set(), false),
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
	examination.allow == one.allow with input as one.input
	examination.deny == one.deny with input as one.input
	examination.decision == one.decision with input as one.input
}

test_cases if {
	wrong := object.keys(cases) - right
	print("wrong:", wrong)
	wrong == set()
}
