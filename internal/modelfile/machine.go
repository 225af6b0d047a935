package modelfile

// Bounds of what the machine holds, so that a hostile file runs into an error and not into memory.
const (
	maxStackWeight = 16 << 20
	// Up to these the memo keeps everything, up to twice these what vital says, then nothing more.
	memoWeight  = 8 << 20
	memoEntries = 128 << 10
)

// machine walks through a pickle as Python's unpickler would, with descriptions in the place of objects.
// The opcodes are those of Python's Lib/pickletools.py.
type machine struct {
	stream   *stream
	findings *findings
	protocol int
	// joblib says that arrays lie raw behind their wrappers. Within the pickle of an object array they do not.
	joblib bool

	stack       []value
	stackWeight int
	// marks are the heights of the stack at each MARK not yet used.
	marks []int

	memo memo

	// frameEnd is where the present frame of protocol 4 ends.
	frameEnd int64
	// opcode is the one that is carried out, and opcodeAt its offset.
	opcode   byte
	opcodeAt int64
}

func newMachine(s *stream, f *findings, joblib bool) *machine {
	return &machine{stream: s, findings: f, joblib: joblib, memo: memo{kept: map[uint64]value{}}}
}

// run reads one pickle, from its first opcode to STOP, and returns what it stands for.
func (m *machine) run() (value, error) {
	for {
		at := m.stream.offset
		code, err := m.stream.octet()
		if err != nil {
			return nil, err
		}
		m.opcode, m.opcodeAt = code, at
		if code == '.' { // STOP
			return m.pop()
		}
		if err := m.step(code); err != nil {
			return nil, err
		}
	}
}

// deceptive notes what no honest pickler writes.
func (m *machine) deceptive(problem string) { m.object(Deceptive, "", problem) }

// object notes what speaks against a name, at the present opcode.
func (m *machine) object(severity Severity, name, problem string) {
	m.findings.object(Reason{Severity: severity, Global: name, Opcode: opcodeName(m.opcode), Offset: m.opcodeAt, Problem: problem})
}

func (m *machine) push(v value) error {
	m.stackWeight += v.weight()
	if m.stackWeight > maxStackWeight {
		return problem("it nests more objects than a model does")
	}
	m.stack = append(m.stack, v)
	return nil
}

func (m *machine) pop() (value, error) {
	top, err := m.top()
	if err != nil {
		return nil, err
	}
	m.truncate(len(m.stack) - 1)
	return top, nil
}

func (m *machine) top() (value, error) {
	bottom := 0
	if len(m.marks) > 0 {
		bottom = m.marks[len(m.marks)-1]
	}
	if len(m.stack) <= bottom {
		return nil, problem("it is no pickle, or damaged: an opcode finds nothing to work on")
	}
	return m.stack[len(m.stack)-1], nil
}

func (m *machine) truncate(height int) {
	for _, v := range m.stack[height:] {
		m.stackWeight -= v.weight()
	}
	clear(m.stack[height:])
	m.stack = m.stack[:height]
}

func (m *machine) mark() error {
	m.stackWeight += 8
	if m.stackWeight > maxStackWeight {
		return problem("it nests more objects than a model does")
	}
	m.marks = append(m.marks, len(m.stack))
	return nil
}

// popMark takes what was pushed since the last MARK. The slice is good until the next push.
func (m *machine) popMark() ([]value, error) {
	if len(m.marks) == 0 {
		return nil, problem("it is no pickle, or damaged: an opcode finds no mark")
	}
	height := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	m.stackWeight -= 8
	items := append([]value(nil), m.stack[height:]...)
	m.truncate(height)
	return items, nil
}
