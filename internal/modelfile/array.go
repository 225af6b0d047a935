package modelfile

import (
	"math"
	"regexp"
	"strconv"
)

// dtype is numpy's description of an element: what numpy.dtype is called with, and the state that it is given
// (numpy/_core/src/multiarray/descriptor.c, arraydescr_reduce and arraydescr_setstate).
type dtype struct {
	// kind is numpy's letter: b, i, u, f, c, m, M, S, U, V or O; 0 where it is unknown.
	kind byte
	// size is in bytes.
	size int64
	// objects says that there are Python objects within.
	objects bool
	// swapped says that numbers have their first byte first.
	swapped bool
}

// array is the content of a small array, or of a scalar.
type array struct {
	dtype    *dtype
	elements int64
	// dimensions is 0 for a scalar.
	dimensions int
	// bytes are the elements as numpy lays them out; empty where they are too many.
	bytes string
	// items are the elements of an array of objects.
	items *list
}

func (a *array) weight() int { return 64 + len(a.bytes) }

func (a *array) small() bool { return a.items == nil && len(a.bytes) <= smallArray }

// elementCode is numpy's name of a type.
var elementCode = regexp.MustCompile(`^[biufcmMSUVO][0-9]{1,9}$`)

// newDtype reads the arguments of numpy.dtype.
func newDtype(arguments value) *dtype {
	list, ok := arguments.(tuple)
	if !ok || len(list.items) == 0 {
		return &dtype{}
	}
	code, ok := list.items[0].(text)
	if !ok || !elementCode.MatchString(string(code)) {
		return &dtype{}
	}
	size, err := strconv.ParseInt(string(code[1:]), 10, 32)
	if err != nil {
		return &dtype{}
	}
	if code[0] == 'U' {
		size *= 4 // numpy stores four bytes a character, and names the characters
	}
	return &dtype{kind: code[0], size: size, objects: code[0] == 'O'}
}

// The flags of a dtype (numpy/_core/include/numpy/ndarraytypes.h): those of objects, those of a structure with objects in it, and those by which
// numpy takes bytes for pointers to objects.
const (
	objectFlags    = 0x3f
	structureFlags = 0x1b
	pointerFlags   = 0x07
)

// describe takes the state of a numpy.dtype: version, byte order, subarray, names, fields, size, alignment, flags, and metadata of dates. It
// returns what is wrong: numpy believes sizes and flags, so one that lies shifts what is read, or makes objects of bytes.
func (d *dtype) describe(state value) string {
	const lie = "a numpy type contradicts itself"
	fields, ok := state.(tuple)
	if !ok || len(fields.items) < 8 || len(fields.items) > 9 {
		return "a numpy type has a state that numpy does not write"
	}
	order, ok := fields.items[1].(text)
	if !ok {
		return lie
	}
	d.swapped = order == ">"
	size, ok := fields.items[5].(integer)
	if !ok || size != -1 && int64(size) != d.size || size == -1 && (d.kind == 'S' || d.kind == 'U' || d.kind == 'V') {
		return lie
	}
	objects, ok := d.within(fields.items[2], fields.items[3], fields.items[4])
	if !ok {
		return lie
	}
	d.objects = d.objects || objects
	flags, ok := fields.items[7].(integer)
	wanted := integer(structureFlags)
	if d.kind == 'O' {
		wanted = objectFlags
	}
	if !ok || d.objects && flags&wanted != wanted || !d.objects && flags&pointerFlags != 0 {
		return lie
	}
	return ""
}

// within looks at the subarray, or the names and fields, of a type; ok says that they are what they claim.
func (d *dtype) within(subarray, names, fields value) (objects, ok bool) {
	if subarray != (none{}) {
		parts, isTuple := subarray.(tuple)
		if !isTuple || len(parts.items) != 2 || d.kind != 'V' {
			return false, false
		}
		inner := dtypeOf(parts.items[0])
		return inner != nil && inner.objects, inner != nil && inner.kind != 0 && inner.times(product(parts.items[1])) == d.size
	}
	if fields == (none{}) {
		return false, names == (none{})
	}
	described, isDict := fields.(*dict)
	if !isDict || described.more || d.kind != 'V' {
		return false, false
	}
	for _, field := range described.entries {
		parts, isTuple := field.item.(tuple)
		if !isTuple || len(parts.items) < 2 {
			return false, false
		}
		inner := dtypeOf(parts.items[0])
		offset, isNumber := parts.items[1].(integer)
		if inner == nil || inner.kind == 0 || !isNumber || offset < 0 || int64(offset) > d.size-inner.size {
			return false, false
		}
		objects = objects || inner.objects
	}
	return objects, true
}

// dtypeOf gives the type that a value is; nil where it is none.
func dtypeOf(v value) *dtype {
	if o, ok := v.(*object); ok {
		return o.dtype
	}
	return nil
}

// times is the size of so many elements; -1 where it is unknown, or beyond any file.
func (d *dtype) times(elements int64) int64 {
	if d.kind == 0 || elements < 0 || d.size > 0 && elements > math.MaxInt64/d.size {
		return -1
	}
	return d.size * elements
}

// product multiplies the numbers of a shape; -1 says that it is no shape.
func product(shape value) int64 {
	list, ok := shape.(tuple)
	if !ok || len(list.items) > maxDimensions {
		return -1
	}
	result := int64(1)
	for _, dimension := range list.items {
		n, ok := dimension.(integer)
		if !ok || n < 0 || n > 0 && result > math.MaxInt64/int64(n) {
			return -1
		}
		result *= int64(n)
	}
	return result
}

func dimensions(shape value) int {
	list, _ := shape.(tuple)
	return len(list.items)
}

// wrapperKeys are what joblib writes of an array (joblib/numpy_pickle.py, NumpyArrayWrapper). The last one came with joblib 1.2.
var wrapperKeys = []text{"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}

// rawArray steps over the bytes of an array and leaves the array in the place of its wrapper (NumpyArrayWrapper.read_array). Where the state
// is not just as joblib writes it, joblib might read another number of bytes, so the file is not read on.
func (m *machine) rawArray(wrapper *object, state value) error {
	described, ok := state.(*dict)
	if !ok || described.more || wrapper.built {
		return problem("a joblib array is not described as joblib does")
	}
	for _, e := range described.entries {
		if key, ok := e.key.(text); !ok || !isWrapperKey(key) {
			return problem("a joblib array is not described as joblib does")
		}
	}
	kind := dtypeOf(described.entry("dtype"))
	shape := described.entry("shape")
	subclass, _ := described.entry("subclass").(*global)
	size := int64(-1)
	if kind != nil {
		size = kind.times(product(shape))
	}
	if size < 0 || subclass == nil || subclass.module != "numpy" {
		return problem("a joblib array does not say its type and shape")
	}
	if m.stream.offset < m.frameEnd {
		return problem("a joblib array lies within a frame of the pickle")
	}
	m.findings.rawArrays = true
	if _, err := m.pop(); err != nil {
		return err
	}
	if kind.objects {
		inner := newMachine(m.stream, m.findings, false)
		content, err := inner.run()
		if err != nil {
			return err
		}
		return m.push(content)
	}
	// joblib before 1.2 has no such entry and writes no padding; None says the same.
	if alignment := described.entry("numpy_array_alignment_bytes"); alignment != nil && alignment != (none{}) {
		padding, err := m.stream.octet()
		if err != nil {
			return err
		}
		if err := m.stream.skip(int64(padding)); err != nil {
			return err
		}
	}
	m.findings.forget(state)
	content, err := m.bytes(size, maxArrayData)
	if err != nil {
		return err
	}
	bytes, _ := content.(data)
	return m.push(m.newArray(subclass, kind, shape, string(bytes)))
}

func isWrapperKey(key text) bool {
	for _, known := range wrapperKeys {
		if key == known {
			return true
		}
	}
	return false
}

// newArray makes an array of a class, with its content where there is room for it.
func (m *machine) newArray(class *global, kind *dtype, shape value, bytes string) *object {
	made := &object{callee: class, made: true, built: true}
	content := &array{dtype: kind, elements: product(shape), dimensions: dimensions(shape), bytes: bytes}
	if m.findings.takeArray(content) {
		made.array = content
	}
	return made
}

// fillArray gives an array that was reconstructed its state: version, shape, type, order, and its bytes, or a list for objects
// (numpy/_core/src/multiarray/methods.c, array_setstate). Masked arrays have two more.
func (m *machine) fillArray(made *object, state value) {
	parts, ok := state.(tuple)
	if !ok || len(parts.items) < 5 {
		m.deceptive("a numpy array has a state that numpy does not write")
		return
	}
	kind := dtypeOf(parts.items[2])
	if kind == nil || kind.kind == 0 {
		m.deceptive("a numpy array is of a type that numpy does not write")
		return
	}
	items, isList := parts.items[4].(*list)
	if kind.objects != isList {
		m.deceptive("a numpy array makes objects of bytes, or bytes of objects")
		return
	}
	made.active = kind.objects
	bytes, _ := parts.items[4].(data)
	content := &array{dtype: kind, elements: product(parts.items[1]), dimensions: dimensions(parts.items[1]), bytes: string(bytes), items: items}
	if m.findings.takeArray(content) {
		if items != nil {
			hold(items)
		}
		made.array = content
	}
}
