# Whose requests the counter takes. Enforcement reads `decision`: neither `allow` nor `deny` means anything to OPA by itself.
package government.digital

import rego.v1

default decision := false

decision if {
	allow
	count(deny) == 0
}

default allow := false

# Compared with true, as the text "false" would count as true by itself.
allow if {
	input.action == "service_request"
	citizen
	input.data_encrypted == true
	input.audit.enabled == true
}

deny contains "the user is no citizen" if not citizen

citizen if input.user.role == "citizen"
