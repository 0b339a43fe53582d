package config

import (
	"sort"
	"strings"
)

// ComponentArgs lays the user's `name=value` entries over a component's defaults. The same name replaces the default,
// `name+=v` adds after it, `name-=v` adds before it, a bare name means true; leading dashes are optional. A name given
// more than once becomes a repeated flag. The result is sorted by name.
func ComponentArgs(defaults map[string]string, extra []string) []string {
	merged := map[string][]string{}
	for name, value := range defaults {
		merged[name] = []string{value}
	}
	given := map[string]bool{}
	for _, entry := range extra {
		name, value, hasValue := strings.Cut(strings.TrimLeft(entry, "-"), "=")
		if !hasValue {
			value = "true"
		}
		last := name[max(len(name)-1, 0):]
		name = strings.TrimRight(name, "+-")
		switch {
		case last == "+":
			merged[name] = append(merged[name], value)
		case last == "-":
			merged[name] = append([]string{value}, merged[name]...)
		case given[name]:
			merged[name] = append(merged[name], value)
		default:
			merged[name] = []string{value}
		}
		given[name] = true
	}
	names := make([]string, 0, len(merged))
	for name := range merged {
		names = append(names, name)
	}
	sort.Strings(names)
	var args []string
	for _, name := range names {
		for _, value := range merged[name] {
			args = append(args, "--"+name+"="+value)
		}
	}
	return args
}
