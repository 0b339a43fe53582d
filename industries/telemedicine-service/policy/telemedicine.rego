# Who may hold a video call, and that medical data stays at the clinic. Enforcement reads `decision`: neither `allow` nor `deny` means anything to OPA by itself.
package healthcare.telemedicine

import rego.v1

default decision := false

decision if {
	allow
	count(deny) == 0
}

default allow := false

# Compared with true, as the text "false" would count as true by itself.
allow if {
	input.action == "video_call"
	input.user.role == "authorized_medical_staff"
	input.patient.consent == true
	input.data_stays_local == true
}

deny contains "medical data would leave the site" if {
	input.action == "data_transfer"
	not to_local
}

# A destination that is not said is not local.
to_local if input.destination == "local"
