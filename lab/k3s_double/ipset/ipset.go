// Package ipset does for the policy controller what it calls the program `ipset` for, so that a host needs no such
// package: K3s brings a static one along. It knows sets of addresses and of networks, and these commands: create, add,
// del, flush, swap, destroy, list, save, restore.
package ipset

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernel is where sets live.
type Kernel interface {
	// Send does one command and gives its answers, one for each set or part of a set.
	Send(command uint8, flags uint16, family uint8, attributes []byte) ([][]byte, error)
}

// Program is one call of it.
type Program struct {
	Kernel Kernel
	In     io.Reader
	Out    io.Writer
	exist  bool // what is there already, or not there any more, is no error
}

// Run does what the arguments say.
func (p *Program) Run(args []string) error {
	args = p.withoutFlags(args)
	if len(args) == 0 {
		return errors.New("no command specified")
	}
	switch args[0] {
	case "restore":
		return p.restore()
	case "save", "list":
		return p.show(args[0] == "save", args[1:])
	}
	return p.change(args)
}

func (p *Program) withoutFlags(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		if arg != "-exist" && arg != "-!" {
			return false
		}
		p.exist = true
		return true
	})
}

func (p *Program) restore() error {
	lines := bufio.NewScanner(p.In)
	for number := 1; lines.Scan(); number++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") || fields[0] == "COMMIT" {
			continue
		}
		if err := p.change(fields); err != nil {
			return fmt.Errorf("error in line %d: %w", number, err)
		}
	}
	return lines.Err()
}

func (p *Program) change(args []string) error {
	command, args := args[0], args[1:]
	wanted := map[string]int{"create": 2, "add": 2, "del": 2, "swap": 2, "destroy": 0, "flush": 0}
	least, known := wanted[command]
	if !known {
		return fmt.Errorf("unknown command %q: this ipset of a lab double knows only what the policy controller needs", command)
	}
	if len(args) < least {
		return fmt.Errorf("%s: missing argument", command)
	}
	var attributes []byte
	if len(args) > 0 {
		attributes = text(attributeName, args[0])
	}
	switch command {
	case "create":
		return p.create(args[0], args[1], args[2:])
	case "add":
		return p.entry(commandAdd, args[0], args[1], args[2:])
	case "del":
		return p.entry(commandDelete, args[0], args[1], args[2:])
	case "swap":
		return p.send(commandSwap, 0, append(attributes, text(attributeType, args[1])...))
	case "flush":
		return p.send(commandFlush, 0, attributes)
	default:
		return p.send(commandDestroy, 0, attributes)
	}
}

// send is for commands without an answer.
func (p *Program) send(command, family uint8, attributes []byte) error {
	var flags uint16
	if !p.exist {
		flags = unix.NLM_F_EXCL
	}
	_, err := p.Kernel.Send(command, flags, family, attributes)
	return err
}

func (p *Program) create(name, kind string, options []string) error {
	family := uint8(unix.AF_INET)
	var data []byte
	for len(options) > 0 {
		option := options[0]
		options = options[1:]
		if option == "counters" || option == "comment" || option == "forceadd" || option == "skbinfo" || len(options) == 0 {
			return fmt.Errorf("create %s: unsupported option %q", name, option)
		}
		value := options[0]
		options = options[1:]
		switch option {
		case "family":
			switch value {
			case "inet":
			case "inet6":
				family = unix.AF_INET6
			default:
				return fmt.Errorf("create %s: unknown family %q", name, value)
			}
		case "bucketsize", "initval": // the kernel's own choice is as good
		case "hashsize", "maxelem", "timeout":
			number, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return fmt.Errorf("create %s: %s %q is no number", name, option, value)
			}
			data = append(data, number32(createNumbers[option], uint32(number))...)
		default:
			return fmt.Errorf("create %s: unsupported option %q", name, option)
		}
	}
	revision, ok := revisions[kind]
	if !ok {
		return fmt.Errorf("create %s: unsupported type %q", name, kind)
	}
	attributes := append(text(attributeName, name), text(attributeType, kind)...)
	attributes = append(attributes, number8(attributeRevision, revision)...)
	attributes = append(attributes, number8(attributeFamily, family)...)
	return p.send(commandCreate, family, append(attributes, nested(attributeData, data)...))
}

func (p *Program) entry(command uint8, set, member string, options []string) error {
	var data []byte
	address, length, hasLength := strings.Cut(member, "/")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("%s: %q is no address", set, member)
	}
	family, kind := uint8(unix.AF_INET), uint16(attributeIPv4)
	if ip.Is6() {
		family, kind = unix.AF_INET6, attributeIPv6
	}
	data = append(data, nested(attributeIP, attribute(kind|unix.NLA_F_NET_BYTEORDER, ip.AsSlice()))...)
	if hasLength {
		bits, err := strconv.ParseUint(length, 10, 8)
		if err != nil || int(bits) > ip.BitLen() {
			return fmt.Errorf("%s: %q is no network", set, member)
		}
		data = append(data, number8(attributeLength, uint8(bits))...)
	}
	for len(options) > 0 {
		switch {
		case options[0] == "nomatch":
			data = append(data, number32(attributeFlags, flagNoMatch)...)
			options = options[1:]
		case options[0] == "timeout" && len(options) > 1:
			seconds, err := strconv.ParseUint(options[1], 10, 32)
			if err != nil {
				return fmt.Errorf("%s: timeout %q is no number", set, options[1])
			}
			data = append(data, number32(attributeTimeout, uint32(seconds))...)
			options = options[2:]
		default:
			return fmt.Errorf("%s: unsupported option %q", set, options[0])
		}
	}
	return p.send(command, family, append(text(attributeName, set), nested(attributeData, data)...))
}

// set is one as it is shown.
type set struct {
	name, kind, family string
	options            []string
	members            []string
}

func (p *Program) show(save bool, names []string) error {
	var attributes []byte
	if len(names) > 0 {
		attributes = text(attributeName, names[0])
	}
	answers, err := p.Kernel.Send(commandList, unix.NLM_F_DUMP, 0, attributes)
	if err != nil {
		return err
	}
	// A large set comes in parts.
	var sets []*set
	for _, answer := range answers {
		part := parseSet(answer)
		if len(sets) > 0 && sets[len(sets)-1].name == part.name {
			sets[len(sets)-1].members = append(sets[len(sets)-1].members, part.members...)
			continue
		}
		sets = append(sets, part)
	}
	for _, one := range sets {
		if err := one.write(p.Out, save); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) write(out io.Writer, save bool) error {
	options := strings.Join(append([]string{"family", s.family}, s.options...), " ")
	head, before := fmt.Sprintf("create %s %s %s\n", s.name, s.kind, options), fmt.Sprintf("add %s ", s.name)
	if !save {
		head, before = fmt.Sprintf("Name: %s\nType: %s\nHeader: %s\nMembers:\n", s.name, s.kind, options), ""
	}
	_, err := io.WriteString(out, head)
	for _, member := range s.members {
		if err == nil {
			_, err = fmt.Fprintf(out, "%s%s\n", before, member)
		}
	}
	return err
}

func parseSet(message []byte) *set {
	found := &set{family: "inet"}
	each(message, func(kind uint16, value []byte) {
		switch kind {
		case attributeName:
			found.name = cString(value)
		case attributeType:
			found.kind = cString(value)
		case attributeFamily:
			if value[0] == unix.AF_INET6 {
				found.family = "inet6"
			}
		case attributeData:
			numbers := map[uint16]uint32{}
			each(value, func(kind uint16, value []byte) {
				if len(value) == 4 {
					numbers[kind] = binary.BigEndian.Uint32(value)
				}
			})
			for _, option := range []string{"hashsize", "maxelem", "timeout"} {
				if number, ok := numbers[createNumbers[option]]; ok {
					found.options = append(found.options, option, strconv.FormatUint(uint64(number), 10))
				}
			}
		case attributeEntries:
			each(value, func(_ uint16, entry []byte) { found.members = append(found.members, parseEntry(entry, found)) })
		}
	})
	return found
}

func parseEntry(entry []byte, of *set) string {
	var address, length, timeout, flags string
	each(entry, func(kind uint16, value []byte) {
		switch kind {
		case attributeIP:
			each(value, func(_ uint16, raw []byte) {
				if ip, ok := netip.AddrFromSlice(raw); ok {
					address = ip.String()
				}
			})
		case attributeLength:
			length = fmt.Sprintf("/%d", value[0])
		case attributeTimeout:
			timeout = fmt.Sprintf(" timeout %d", binary.BigEndian.Uint32(value))
		case attributeFlags:
			if binary.BigEndian.Uint32(value)&flagNoMatch != 0 {
				flags = " nomatch"
			}
		}
	})
	if length == "/32" && of.family == "inet" || length == "/128" {
		length = ""
	}
	return address + length + timeout + flags
}
