package ipset

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// From the kernel's uapi/linux/netfilter/ipset/ip_set.h.
const (
	subsystem = 6
	protocol  = 6

	commandCreate  = 2
	commandDestroy = 3
	commandFlush   = 4
	commandSwap    = 6
	commandList    = 7
	commandAdd     = 9
	commandDelete  = 10

	attributeProtocol = 1
	attributeName     = 2
	attributeType     = 3 // of two sets: the second one's name
	attributeRevision = 4
	attributeFamily   = 5
	attributeData     = 7
	attributeEntries  = 8

	// In attributeData
	attributeIP      = 1
	attributeLength  = 3
	attributeTimeout = 6
	attributeFlags   = 8
	// In attributeIP
	attributeIPv4 = 1
	attributeIPv6 = 2

	flagNoMatch = 1 << 2
)

var (
	createNumbers = map[string]uint16{"timeout": attributeTimeout, "hashsize": 18, "maxelem": 19}
	// What a type can, as the kernel counts it: since these it can all that is used here.
	revisions = map[string]uint8{"hash:ip": 1, "hash:net": 2}
	// Errors of ipset's own.
	ownErrors = map[int]string{
		4097: "Kernel error: protocol", 4098: "Kernel and userspace disagree on set types",
		4099: "Set cannot be created: the maximal number of sets is reached",
		4100: "Set cannot be destroyed: it is in use by a kernel component",
		4101: "Set cannot be renamed: a set with the new name already exists",
		4102: "The sets cannot be swapped: their types do not match",
		4103: "Element cannot be added to the set: it's already added",
		4104: "Invalid CIDR value", 4105: "Invalid netmask", 4106: "Protocol family not supported by the set type",
		4107: "Timeout is not supported by the set", 4110: "Invalid address",
	}
)

const (
	native    = 4 // length of struct nfgenmsg
	align     = 4
	socketBuf = 1 << 16
)

// Linux is the kernel that this runs on.
type Linux struct{}

// Send talks to the kernel over a socket of its own.
func (Linux) Send(command uint8, flags uint16, family uint8, attributes []byte) ([][]byte, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	defer unix.Close(socket)
	if err := unix.Bind(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	attributes = append(number8(attributeProtocol, protocol), attributes...)
	length := unix.NLMSG_HDRLEN + native + len(attributes)
	message := binary.NativeEndian.AppendUint32(nil, uint32(length))
	message = binary.NativeEndian.AppendUint16(message, subsystem<<8|uint16(command))
	message = binary.NativeEndian.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	message = append(message, make([]byte, 8)...) // sequence number and port: the socket has one request only
	message = append(message, family, 0, 0, 0)
	message = append(message, attributes...)
	if err := unix.Sendto(socket, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	return receive(socket)
}

// receive collects answers until the kernel says that it is done.
func receive(socket int) ([][]byte, error) {
	var answers [][]byte
	buffer := make([]byte, socketBuf)
	for {
		size, _, err := unix.Recvfrom(socket, buffer, 0)
		if err != nil {
			return nil, err
		}
		for rest := buffer[:size]; len(rest) >= unix.NLMSG_HDRLEN; {
			length := int(binary.NativeEndian.Uint32(rest))
			if length < unix.NLMSG_HDRLEN || length > len(rest) {
				return nil, fmt.Errorf("netlink: a message of %d bytes in %d", length, len(rest))
			}
			body := rest[unix.NLMSG_HDRLEN:length]
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_ERROR:
				return answers, failure(body)
			case unix.NLMSG_DONE:
				return answers, failure(body)
			default:
				answers = append(answers, bytes.Clone(body[native:]))
			}
			rest = rest[min(len(rest), aligned(length)):]
		}
	}
}

// failure reads the number at the begin of an answer; 0 is none.
func failure(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	code := -int(int32(binary.NativeEndian.Uint32(body)))
	switch text, own := ownErrors[code]; {
	case code == 0:
		return nil
	case code == int(unix.ENOENT):
		return fmt.Errorf("The set with the given name does not exist")
	case code == int(unix.EEXIST):
		return fmt.Errorf("Set cannot be created: set with the same name already exists")
	case own:
		return fmt.Errorf("%s", text)
	case code > 4096:
		return fmt.Errorf("Kernel error: ipset error %d", code)
	}
	return unix.Errno(code)
}

func aligned(length int) int { return (length + align - 1) &^ (align - 1) }

func attribute(kind uint16, value []byte) []byte {
	length := 4 + len(value)
	encoded := binary.NativeEndian.AppendUint16(nil, uint16(length))
	encoded = binary.NativeEndian.AppendUint16(encoded, kind)
	return append(append(encoded, value...), make([]byte, aligned(length)-length)...)
}

func nested(kind uint16, value []byte) []byte { return attribute(kind|unix.NLA_F_NESTED, value) }

func text(kind uint16, value string) []byte { return attribute(kind, append([]byte(value), 0)) }

func number8(kind uint16, value uint8) []byte { return attribute(kind, []byte{value}) }

func number32(kind uint16, value uint32) []byte {
	return attribute(kind|unix.NLA_F_NET_BYTEORDER, binary.BigEndian.AppendUint32(nil, value))
}

// each goes through attributes; flags are taken from their kinds.
func each(attributes []byte, do func(kind uint16, value []byte)) {
	for len(attributes) >= 4 {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < 4 || length > len(attributes) {
			return
		}
		do(binary.NativeEndian.Uint16(attributes[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), attributes[4:length])
		attributes = attributes[min(len(attributes), aligned(length)):]
	}
}

func cString(value []byte) string { return string(bytes.TrimRight(value, "\x00")) }
