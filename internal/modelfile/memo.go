package modelfile

import "strconv"

// memo is what a pickle keeps under numbers to refer to it later.
type memo struct {
	kept   map[uint64]value
	weight int
	// dense says that all indices below it were used, kept or not.
	dense uint64
	// beyond counts the indices from dense on that were used. They are all kept.
	beyond uint64
}

// used says whether something was put at an index.
func (m *memo) used(index uint64) bool {
	_, kept := m.kept[index]
	return kept || index < m.dense
}

// put keeps a value, or only that there was one where there is no room. Memoized indices count as Python's dictionary does, by what is in it.
func (m *memo) put(index uint64, v value) error {
	if old, ok := m.kept[index]; ok {
		m.weight -= old.weight()
		delete(m.kept, index)
		if index >= m.dense {
			m.beyond--
		}
	}
	kept := m.fits(v, 1) || vital(v) && m.fits(v, 2)
	switch {
	case index == m.dense:
		m.dense++
	case index > m.dense && !kept:
		return problem("it keeps more objects, in a strange order, than a model does")
	case index > m.dense:
		m.beyond++
	}
	if kept {
		m.weight += v.weight()
		m.kept[index] = v
	}
	for m.beyond > 0 {
		if _, ok := m.kept[m.dense]; !ok {
			break
		}
		m.dense++
		m.beyond--
	}
	return nil
}

// next is the index that MEMOIZE takes.
func (m *memo) next() uint64 { return m.dense + m.beyond }

// fits says whether there is room, times so much as there usually is.
func (m *memo) fits(v value, times int) bool {
	return len(m.kept) < times*memoEntries && m.weight+v.weight() <= times*memoWeight
}

// vital says that a value may be what a name, an array or a version is recognized by, even behind a million words of a vocabulary, which
// are not.
func vital(v value) bool {
	switch v := v.(type) {
	case *global:
		return true
	case *object:
		return v.dtype != nil
	case text:
		return known().words[string(v)] || vitalTexts[v] || elementCode.MatchString(string(v))
	}
	return false
}

// vitalTexts are the names by which an array is written (joblib/numpy_pickle.py), a version (sklearn/base.py) and a distribution, and those that
// lead to what Info tells.
var vitalTexts = map[text]bool{
	"subclass": true, "order": true, "dtype": true, "shape": true, "allow_mmap": true, "numpy_array_alignment_bytes": true,
	"_sklearn_version": true, "_parse_arg_template": true, "latin1": true, "steps": true, "estimator": true, "classes_": true, "feature_names_in_": true,
	"n_features_in_": true, "best_estimator_": true, "<": true, ">": true, "|": true, "=": true,
}

// reference reads the index of an opcode that puts into the memo or gets from it.
func (m *machine) reference(code byte) (uint64, error) {
	switch code {
	case 'q', 'h':
		return m.stream.unsigned(1)
	case 'r', 'j':
		return m.stream.unsigned(4)
	case 0x94: // MEMOIZE counts by itself
		return m.memo.next(), nil
	}
	line, _, err := m.stream.line()
	if err != nil {
		return 0, err
	}
	index, err := strconv.ParseUint(line, 10, 32)
	if err != nil {
		return 0, problem("it is no pickle, or damaged: a reference is no number")
	}
	return index, nil
}

// memoize keeps the top of the stack for later references.
func (m *machine) memoize(code byte) error {
	index, err := m.reference(code)
	if err != nil {
		return err
	}
	top, err := m.top()
	if err != nil {
		return err
	}
	return m.memo.put(index, top)
}

// recall pushes what was kept.
func (m *machine) recall(code byte) error {
	index, err := m.reference(code)
	if err != nil {
		return err
	}
	if v, ok := m.memo.kept[index]; ok {
		return m.push(v)
	}
	if m.memo.used(index) {
		return m.push(lost{})
	}
	return problem("it is no pickle, or damaged: it refers to an object that was not there before")
}
