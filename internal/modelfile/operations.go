package modelfile

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode"
)

// prelude reads PROTO and FRAME.
func (m *machine) prelude(code byte) error {
	if code == 0x80 {
		protocol, err := m.stream.octet()
		if err != nil {
			return err
		}
		if protocol > 5 {
			return problem("it is no pickle of protocol 0 to 5")
		}
		m.protocol = int(protocol)
		m.findings.announced = true
		return nil
	}
	size, err := m.stream.length(8)
	if err != nil {
		return err
	}
	m.frameEnd = m.stream.offset + size
	return nil
}

func (m *machine) duplicate() error {
	top, err := m.top()
	if err != nil {
		return err
	}
	return m.push(top)
}

// discard drops the top of the stack, which may be a mark.
func (m *machine) discard() error {
	if n := len(m.marks); n > 0 && m.marks[n-1] == len(m.stack) {
		_, err := m.popMark()
		return err
	}
	_, err := m.pop()
	return err
}

// integer reads a binary integer of one, two or, with a sign, four bytes.
func (m *machine) integer(width int) error {
	n, err := m.stream.unsigned(width)
	if err != nil {
		return err
	}
	if width == 4 {
		return m.push(integer(int32(n))) //nolint:gosec // two's complement, as written
	}
	return m.push(integer(n)) //nolint:gosec // at most two bytes
}

// long reads a little-endian number of any size up to 255 bytes, with a sign.
func (m *machine) long() error {
	size, err := m.stream.octet()
	if err != nil {
		return err
	}
	if size > 8 {
		return m.skip(int64(size))
	}
	n, err := m.stream.unsigned(int(size))
	if err != nil {
		return err
	}
	unused := 64 - 8*uint(size)
	return m.push(integer(int64(n<<unused) >> unused)) //nolint:gosec // two's complement, as written
}

// number reads a decimal number of protocol 0.
func (m *machine) number(code byte) error {
	line, whole, err := m.stream.line()
	if err != nil {
		return err
	}
	if code == 'I' && (line == "00" || line == "01") {
		return m.push(boolean(line == "01"))
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(line, "L"), 10, 64)
	if err != nil || !whole {
		return m.push(opaque{}) // larger than any shape or size
	}
	return m.push(integer(n))
}

// float reads a decimal number of protocol 0.
func (m *machine) float() error {
	line, _, err := m.stream.line()
	if err != nil {
		return err
	}
	n, err := strconv.ParseFloat(line, 64)
	if err != nil {
		return m.push(opaque{})
	}
	return m.push(float(n))
}

// binaryFloat reads eight bytes, the first of which comes first.
func (m *machine) binaryFloat() error {
	n, err := m.stream.unsigned(8)
	if err != nil {
		return err
	}
	return m.push(float(math.Float64frombits(bits.ReverseBytes64(n))))
}

// bytes reads n bytes where they are at most so many, and steps over them otherwise.
func (m *machine) bytes(n, most int64) (value, error) {
	if n > most {
		return opaque{}, m.stream.skip(n)
	}
	raw, err := m.stream.take(n)
	return data(raw), err
}

// data reads n bytes of which the content may matter where they are few.
func (m *machine) data(n int64) error {
	v, err := m.bytes(n, maxData)
	if err != nil {
		return err
	}
	return m.push(v)
}

// sized steps over bytes that are preceded by their number.
func (m *machine) sized(width int) error {
	n, err := m.stream.length(width)
	if err != nil {
		return err
	}
	return m.data(n)
}

// skip steps over n bytes of a number that is larger than any that matters.
func (m *machine) skip(n int64) error {
	if err := m.stream.skip(n); err != nil {
		return err
	}
	return m.push(opaque{})
}

// text reads a string that is preceded by its length.
func (m *machine) text(width int) error {
	n, err := m.stream.length(width)
	if err != nil {
		return err
	}
	v, err := m.stream.text(n)
	if err != nil {
		return err
	}
	return m.push(v)
}

// quoted reads a string of protocol 0: of Python 2 in quotes, or with the escapes of Python's raw-unicode-escape.
func (m *machine) quoted(code byte) error {
	line, whole, err := m.stream.line()
	if err != nil {
		return err
	}
	if !whole {
		return m.push(opaque{})
	}
	if code == 'V' {
		return m.push(unescape(line))
	}
	if len(line) < 2 || line[0] != line[len(line)-1] || strings.IndexByte(line, '\\') >= 0 {
		return m.push(opaque{})
	}
	return m.push(text(line[1 : len(line)-1]))
}

// unescape reads raw-unicode-escape: bytes stand for themselves as in Latin-1, and only \u and \U are escapes.
func unescape(line string) value {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != '\\' || i+1 == len(line) || line[i+1] != 'u' && line[i+1] != 'U' {
			b.WriteRune(rune(line[i]))
			continue
		}
		// Two backslashes before it make it none; pickle writes the first as an escape of its own, so no honest file has two.
		digits := 4
		if line[i+1] == 'U' {
			digits = 8
		}
		if i > 0 && line[i-1] == '\\' || i+2+digits > len(line) {
			return opaque{}
		}
		n, err := strconv.ParseUint(line[i+2:i+2+digits], 16, 32)
		if err != nil || n > unicode.MaxRune {
			return opaque{}
		}
		b.WriteRune(rune(n))
		i += 1 + digits
	}
	return text(b.String())
}

// empty pushes a new container.
func (m *machine) empty(code byte) error {
	switch code {
	case ')':
		return m.push(newTuple(nil))
	case '}':
		return m.push(&dict{})
	}
	return m.push(&list{set: code == 0x8f})
}

// collect makes a container of what was pushed since the last mark.
func (m *machine) collect(code byte) error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	switch code {
	case 't':
		return m.push(newTuple(items))
	case 'd':
		made := &dict{}
		if err := m.setItems(made, items); err != nil {
			return err
		}
		return m.push(made)
	}
	made := &list{set: code == 0x91}
	m.addItems(made, items)
	return m.push(made)
}

func (m *machine) shortTuple(size int) error {
	items, err := m.take(size)
	if err != nil {
		return err
	}
	return m.push(newTuple(items))
}

// take pops a few values and gives them in the order in which they were pushed.
func (m *machine) take(count int) ([]value, error) {
	items := make([]value, count)
	for i := range items {
		v, err := m.pop()
		if err != nil {
			return nil, err
		}
		items[count-1-i] = v
	}
	return items, nil
}

// add puts one item, or a key and its value, into the container below it.
func (m *machine) add(count int) error {
	items, err := m.take(count)
	if err != nil {
		return err
	}
	return m.fill(items)
}

// extend puts everything since the last mark into the container below it.
func (m *machine) extend() error {
	items, err := m.popMark()
	if err != nil {
		return err
	}
	return m.fill(items)
}

// fill puts items into the container on the top of the stack. Objects take them by methods of their own.
func (m *machine) fill(items []value) error {
	container, err := m.top()
	if err != nil {
		return err
	}
	keyed := m.opcode == 's' || m.opcode == 'u'
	switch container := container.(type) {
	case *dict:
		if keyed {
			return m.setItems(container, items)
		}
	case *list:
		if !keyed && container.set == (m.opcode == 0x90) {
			m.addItems(container, items)
			return nil
		}
	case *object:
		if container.callee.items && keyed == isMapping(container.callee) || container.callee.severity != "" {
			m.fillObject(container, items, keyed)
			return nil
		}
	}
	m.deceptive("it puts items into what is no container")
	return nil
}

// isMapping says whether the objects of a class that take items take them under keys.
func isMapping(g *global) bool { return g.name != "set" && g.name != "frozenset" && g.name != "deque" }

// fillObject gives an object its items. What has them as attributes, too, has its methods there.
func (m *machine) fillObject(container *object, items []value, keyed bool) {
	for i, item := range items {
		m.judgeItem(item)
		container.active = container.active || isActive(item)
		if keyed && i%2 == 1 && container.callee.severity == "" && !isInertClass(container.callee) && replaces(items[i-1], item) {
			m.object(Deceptive, container.callee.String(), replacedBy(shownName(items[i-1])))
		}
		m.findings.forget(item)
	}
}

func (m *machine) addItems(container *list, items []value) {
	for _, item := range items {
		m.judgeItem(item)
		m.findings.add(container, item)
	}
}

func (m *machine) setItems(container *dict, items []value) error {
	if len(items)%2 != 0 {
		return problem("it is no pickle, or damaged: a dictionary has a key without a value")
	}
	for i := 0; i < len(items); i += 2 {
		m.judgeItem(items[i])
		if items[i] != text("subclass") || !isMemmap(items[i+1]) { // of a joblib array
			m.judgeItem(items[i+1])
		}
		m.findings.set(container, items[i], items[i+1])
	}
	return nil
}
