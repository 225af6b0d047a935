package modelfile

// opcodeNames are those of Python's Lib/pickletools.py of what may speak against a file.
var opcodeNames = map[byte]string{
	'c': "GLOBAL", 'i': "INST", 0x93: "STACK_GLOBAL", 'R': "REDUCE", 'o': "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX", 'b': "BUILD",
	'a': "APPEND", 'e': "APPENDS", 's': "SETITEM", 'u': "SETITEMS", 0x90: "ADDITEMS", 'd': "DICT", 'l': "LIST", 0x91: "FROZENSET",
}

func opcodeName(code byte) string { return opcodeNames[code] }

// step carries out one opcode. The names are those of Python's Lib/pickletools.py.
func (m *machine) step(code byte) error {
	switch code {
	case 0x80, 0x95: // PROTO, FRAME
		return m.prelude(code)
	case '(': // MARK
		return m.mark()
	case '0': // POP, which takes a mark too
		return m.discard()
	case '1': // POP_MARK
		_, err := m.popMark()
		return err
	case '2': // DUP
		return m.duplicate()

	case 'N': // NONE
		return m.push(none{})
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return m.push(boolean(code == 0x88))
	case 'I', 'L': // INT, LONG
		return m.number(code)
	case 'J': // BININT
		return m.integer(4)
	case 'K': // BININT1
		return m.integer(1)
	case 'M': // BININT2
		return m.integer(2)
	case 0x8a: // LONG1
		return m.long()
	case 0x8b: // LONG4
		return m.sized(4)
	case 'G': // BINFLOAT
		return m.binaryFloat()
	case 'F': // FLOAT
		return m.float()

	case 'S', 'V': // STRING, UNICODE
		return m.quoted(code)
	case 'U', 0x8c: // SHORT_BINSTRING, SHORT_BINUNICODE
		return m.text(1)
	case 'T', 'X': // BINSTRING, BINUNICODE
		return m.text(4)
	case 0x8d: // BINUNICODE8
		return m.text(8)
	case 'C': // SHORT_BINBYTES
		return m.sized(1)
	case 'B': // BINBYTES
		return m.sized(4)
	case 0x8e, 0x96: // BINBYTES8, BYTEARRAY8
		return m.sized(8)

	case ')', ']', '}', 0x8f: // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET
		return m.empty(code)
	case 't', 'l', 'd', 0x91: // TUPLE, LIST, DICT, FROZENSET
		return m.collect(code)
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		return m.shortTuple(int(code-0x85) + 1)
	case 'a': // APPEND
		return m.add(1)
	case 's': // SETITEM
		return m.add(2)
	case 'e', 'u', 0x90: // APPENDS, SETITEMS, ADDITEMS
		return m.extend()

	case 'p', 'q', 'r', 0x94: // PUT, BINPUT, LONG_BINPUT, MEMOIZE
		return m.memoize(code)
	case 'g', 'h', 'j': // GET, BINGET, LONG_BINGET
		return m.recall(code)

	case 'c', 'i': // GLOBAL, INST
		return m.global(code)
	case 0x93: // STACK_GLOBAL
		return m.stackGlobal()
	case 'R', 0x81, 0x92, 'o': // REDUCE, NEWOBJ, NEWOBJ_EX, OBJ
		return m.construct(code)
	case 'b': // BUILD
		return m.build()

	case 'P', 'Q', 0x82, 0x83, 0x84, 0x97, 0x98:
		// PERSID, BINPERSID, EXT1, EXT2, EXT4, NEXT_BUFFER, READONLY_BUFFER
		return problem("it needs what is not in the file (persistent ids, extension codes or buffers): " +
			"save the model with joblib.dump or pickle.dump alone")
	}
	return problem("it is no pickle, or damaged: not an opcode")
}
