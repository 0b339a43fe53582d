# Who may see and change how far somebody has come. Enforcement reads `decision`: neither `allow` nor `deny` means anything
# to OPA by itself.
package education.learning

import rego.v1

default decision := false

decision if {
	allow
	count(deny) == 0
}

default allow := false

# Compared with true, as the text "false" would count as true by itself.
allow if {
	on_progress
	input.user.role == "student"
	input.course.enrolled == true
	own_progress
}

deny contains "the progress is another user's" if {
	on_progress
	not own_progress
}

on_progress if input.action in {"read_progress", "update_progress"}

# Two users without an id are not the same user.
own_progress if {
	is_string(input.user.id)
	input.user.id != ""
	input.user.id == input.progress.user_id
}
