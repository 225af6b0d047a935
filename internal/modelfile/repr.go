package modelfile

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// repr writes a value as Python's repr does; ok is false where the file does not tell it whole. An object of a class is written as
// RandomForestClassifier(...), since its constructor's defaults are not in the file.
func repr(v value) (written string, ok bool) {
	w := writer{}
	w.value(v, maxDepth)
	return w.b.String(), !w.failed
}

type writer struct {
	b      strings.Builder
	failed bool
}

func (w *writer) value(v value, depth int) {
	if depth == 0 || w.b.Len() > maxParamBytes {
		w.failed = true
	}
	if w.failed {
		return
	}
	switch v := v.(type) {
	case none:
		w.b.WriteString("None")
	case boolean:
		w.b.WriteString(map[boolean]string{true: "True", false: "False"}[v])
	case integer:
		w.b.WriteString(strconv.FormatInt(int64(v), 10))
	case float:
		w.b.WriteString(reprFloat(float64(v)))
	case text:
		w.b.WriteString(reprText(string(v)))
	case tuple:
		w.items("(", v.items, map[bool]string{true: ",)", false: ")"}[len(v.items) == 1], depth)
	case *list:
		w.list(v, depth)
	case *dict:
		w.dict(v, depth)
	case *global:
		w.b.WriteString(v.String())
	case *object:
		w.object(v, depth)
	default:
		w.failed = true
	}
}

func (w *writer) items(before string, items []value, after string, depth int) {
	w.b.WriteString(before)
	for i, item := range items {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.value(item, depth-1)
		if w.failed {
			return
		}
	}
	w.b.WriteString(after)
}

func (w *writer) list(v *list, depth int) {
	switch {
	case v.more || v.set && len(v.items) == 0:
		w.failed = true
	case v.set:
		w.items("{", v.items, "}", depth)
	default:
		w.items("[", v.items, "]", depth)
	}
}

func (w *writer) dict(v *dict, depth int) {
	w.failed = w.failed || v.more
	w.b.WriteString("{")
	for i, e := range v.entries {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.value(e.key, depth-1)
		w.b.WriteString(": ")
		w.value(e.item, depth-1)
		if w.failed {
			return
		}
	}
	w.b.WriteString("}")
}

func (w *writer) object(v *object, depth int) {
	switch items, _ := elements(v); {
	case v.array != nil && v.array.dimensions == 0 && len(items) == 1:
		w.value(items[0], depth-1)
	case v.array != nil && items != nil && v.array.dimensions == 1:
		w.items("array([", items, "])", depth)
	case v.array != nil, v.dtype != nil, v.callee.is("numpy.ndarray"):
		w.failed = true
	default:
		w.b.WriteString(v.callee.name + "(...)")
	}
}

// reprFloat writes the shortest digits that read back as the same number, as Python does (Python/pystrtod.c, format code r).
func reprFloat(n float64) string {
	switch {
	case math.IsNaN(n):
		return "nan"
	case math.IsInf(n, 0):
		return map[bool]string{true: "inf", false: "-inf"}[n > 0]
	}
	if magnitude := math.Abs(n); magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16) {
		return strconv.FormatFloat(n, 'e', -1, 64)
	}
	digits := strconv.FormatFloat(n, 'f', -1, 64)
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	return digits
}

// reprText writes a string in quotes (Objects/unicodeobject.c, unicode_repr).
func reprText(t string) string {
	quote := '\''
	if strings.ContainsRune(t, '\'') && !strings.ContainsRune(t, '"') {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range t {
		switch {
		case r == quote || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f || r >= 0x80 && r <= 0xff && !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r) && r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}

// elements gives the plain values of a list, of a flat array or of a scalar, and numpy's type of them; nil where they are not known.
func elements(v value) (items []value, kind string) {
	switch v := v.(type) {
	case *list:
		if !v.more && !v.set {
			return v.items, "object"
		}
	case *object:
		if v.array != nil && v.array.dimensions <= 1 {
			return v.array.values()
		}
	}
	return nil, ""
}

// values decodes the elements as numpy lays them out.
func (a *array) values() (items []value, kind string) {
	if a.items != nil {
		if a.items.more {
			return nil, ""
		}
		return a.items.items, "object"
	}
	size := a.dtype.size
	if size == 0 || int64(len(a.bytes)) != a.dtype.times(a.elements) {
		return nil, ""
	}
	for at := int64(0); at < int64(len(a.bytes)); at += size {
		item := a.dtype.decode([]byte(a.bytes[at : at+size]))
		if item == nil {
			return nil, ""
		}
		items = append(items, item)
	}
	return items, a.dtype.name()
}

func (d *dtype) name() string {
	switch d.kind {
	case 'b':
		return "bool"
	case 'U':
		return "str"
	case 'i':
		return fmt.Sprintf("int%d", 8*d.size)
	case 'u':
		return fmt.Sprintf("uint%d", 8*d.size)
	}
	return fmt.Sprintf("float%d", 8*d.size)
}

// decode gives one element; nil for types that no label is of.
func (d *dtype) decode(raw []byte) value {
	if d.kind == 'U' {
		return d.decodeText(raw)
	}
	if len(raw) > 8 {
		return nil
	}
	var bits uint64
	for i, b := range raw {
		if d.swapped {
			bits = bits<<8 | uint64(b)
		} else {
			bits |= uint64(b) << (8 * i)
		}
	}
	unused := 64 - 8*uint(len(raw))
	switch {
	case d.kind == 'b':
		return boolean(bits != 0)
	case d.kind == 'i':
		return integer(int64(bits<<unused) >> unused) //nolint:gosec // two's complement, as written
	case d.kind == 'u' && bits <= math.MaxInt64:
		return integer(bits)
	case d.kind == 'f' && len(raw) == 8:
		return float(math.Float64frombits(bits))
	case d.kind == 'f' && len(raw) == 4:
		short := math.Float32frombits(uint32(bits))
		n, err := strconv.ParseFloat(strconv.FormatFloat(float64(short), 'g', -1, 32), 64)
		if err != nil {
			return nil
		}
		return float(n)
	}
	return nil
}

func (d *dtype) decodeText(raw []byte) value {
	order := binary.ByteOrder(binary.LittleEndian)
	if d.swapped {
		order = binary.BigEndian
	}
	var b strings.Builder
	for at := 0; at+4 <= len(raw); at += 4 {
		character := order.Uint32(raw[at:])
		if character > unicode.MaxRune || !utf8.ValidRune(rune(character)) {
			return nil
		}
		b.WriteRune(rune(character))
	}
	return text(strings.TrimRight(b.String(), "\x00"))
}
