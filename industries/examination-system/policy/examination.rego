# Who may sit an exam. Enforcement reads `decision`: neither `allow` nor `deny` means anything to OPA by itself.
package education.examination

import rego.v1

default decision := false

decision if {
	allow
	count(deny) == 0
}

default allow := false

# Compared with true, as the text "false" would count as true by itself.
allow if {
	input.action == "take_exam"
	input.user.role == "student"
	input.exam.enrolled == true
	input.anti_cheat.enabled == true
}

deny contains "anti-cheat has detected cheating" if {
	input.action == "take_exam"
	input.anti_cheat.detected != false
}
