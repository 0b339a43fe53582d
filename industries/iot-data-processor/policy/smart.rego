# What may be done with the records of a factory: anything on the floor, nothing outside. Enforcement reads `decision`: neither `allow` nor `deny` means anything to OPA by itself.
package manufacturing.smart

import rego.v1

default decision := false

decision if {
	allow
	count(deny) == 0
}

default allow := false

# Compared with true, as the text "false" would count as true by itself.
allow if {
	input.action == "process_data"
	input.data_stays_local == true
}

deny contains "the data would leave the site" if {
	input.action == "export"
	not to_local
}

# A destination that is not said is not local.
to_local if input.destination == "local"
