package healthcare.telemedicine_test

import rego.v1

import data.healthcare.telemedicine

good := {
	"action": "video_call",
	"user": {"role": "authorized_medical_staff"},
	"patient": {"consent": true},
	"data_stays_local": true,
}

leaves := {"medical data would leave the site"}

# What is sent, and what has to come of it.
cases := {
	"allowed": {"input": good, "allow": true, "deny": set(), "decision": true},
	"other action": case([set_to("/action", "voice_call")], false, set(), false),
	"no medical staff": case([set_to("/user/role", "receptionist")], false, set(), false),
	"no consent": case([set_to("/patient/consent", false)], false, set(), false),
	"consent, as text": case([set_to("/patient/consent", "no")], false, set(), false),
	"consent not known": case([{"op": "remove", "path": "/patient"}], false, set(), false),
	"data does not stay": case([set_to("/data_stays_local", false)], false, set(), false),
	"away: neither allowed nor denied when local": case([set_to("/action", "data_transfer"), to("local")], false, set(), false),
	"away": case([set_to("/action", "data_transfer"), to("cloud")], false, leaves, false),
	"away, nobody says where to": case([set_to("/action", "data_transfer")], false, leaves, false),
	"away, in other letters": case([set_to("/action", "data_transfer"), to("Local")], false, leaves, false),
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
	telemedicine.allow == one.allow with input as one.input
	telemedicine.deny == one.deny with input as one.input
	telemedicine.decision == one.decision with input as one.input
}

test_cases if {
	wrong := object.keys(cases) - right
	print("wrong:", wrong)
	wrong == set()
}

# No input is both: the rules exclude each other. `decision` must hold to it if one of them changes.
test_denied_while_allowed if {
	not telemedicine.decision with input as cases.away.input with data.healthcare.telemedicine.allow as true
	telemedicine.decision with input as {} with data.healthcare.telemedicine.allow as true
}
