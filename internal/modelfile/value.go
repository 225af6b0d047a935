package modelfile

// value is what the machine knows of a Python object. Containers and objects are pointers, as in Python: what is put into one later is in
// each place that it was put. What they hold counts against the budget, all else by weight against the bounds of stack and memo.
type value interface {
	// weight is the memory that the value itself holds, in bytes, roughly.
	weight() int
}

type (
	// opaque is plain data of which nothing needs to be known: a long string, a large number, bytes. It is never an object.
	opaque struct{}
	// lost is an object that may be anything.
	lost struct{}
	// none is Python's None.
	none    struct{}
	boolean bool
	// integer is an int that fits; others are opaque.
	integer int64
	float   float64
	// text is a str, or a Python 2 string, of up to maxText bytes.
	text string
	// data is a bytes or bytearray of up to maxData bytes.
	data string
	// tuple is a tuple with all its items.
	tuple struct {
		items []value
		held  int
		// hides says that a name that is only ever used in its place is in it.
		hides bool
		// active says that something in it is active.
		active bool
	}
)

// list is a list, a set or a frozenset.
type list struct {
	holders
	items []value
	// set says that it is no list.
	set bool
	// active says that something was put into it that is active.
	active bool
	// more says that not all items are kept.
	more bool
}

// dict is a dictionary.
type dict struct {
	holders
	entries []entry
	// places are the indices in entries of the keys that are texts.
	places map[text]int
	// more says that not all entries are kept.
	more bool
	// active says that something was put into it that is active.
	active bool
	// replaced is a key that is, or may be, the name of a method, and has a callable; empty for none.
	replaced text
	// special is a key that has, or may have, a meaning for Python's objects, such as __class__; empty for none.
	special text
}

type entry struct{ key, item value }

// holders counts the containers that keep something, since one that forgets it must not take it from the others.
type holders int

func (h *holders) count() *holders { return h }

func hold(v value) {
	if counted, ok := v.(interface{ count() *holders }); ok {
		*counted.count()++
	}
}

// object is what a call returned.
type object struct {
	holders
	// callee is what was called to make it.
	callee *global
	// made says that callee is surely its class, not a function that returns something.
	made bool
	// built says that it was given its state.
	built bool
	// active says that it may be asked to do something: see isActive.
	active bool
	// state is what it was given; nil for nothing, or where it is not kept.
	state value
	// dtype is what numpy.dtype objects describe; nil for all else.
	dtype *dtype
	// array is the content of a numpy array or scalar; nil where it is not kept, and for all else.
	array *array
}

func (opaque) weight() int  { return 16 }
func (lost) weight() int    { return 16 }
func (none) weight() int    { return 16 }
func (boolean) weight() int { return 16 }
func (integer) weight() int { return 16 }
func (float) weight() int   { return 16 }
func (t text) weight() int  { return 32 + len(t) }
func (d data) weight() int  { return 32 + len(d) }
func (*global) weight() int { return 16 } // there is one for each name
func (t tuple) weight() int { return 40 + t.held }
func (*list) weight() int   { return 64 }
func (*dict) weight() int   { return 80 }
func (*object) weight() int { return 120 }

func newTuple(items []value) tuple {
	made := tuple{items: append([]value(nil), items...)}
	for _, item := range items {
		hold(item)
		made.held += item.weight()
		made.hides = made.hides || hides(item)
		made.active = made.active || isActive(item)
	}
	return made
}

// entry gives what a dictionary has for a key; nil for nothing, or where it is not kept.
func (d *dict) entry(key text) value {
	if place, ok := d.places[key]; ok {
		return d.entries[place].item
	}
	return nil
}

// Bounds of what containers keep. Names of columns may be many; other items of long lists, such as the trees of a forest, tell nothing new.
const (
	maxItems     = 128
	maxPlain     = 4096
	maxEntries   = 1024
	maxContents  = 8 << 20
	maxLabels    = 8 << 20
	smallArray   = 256
	entryWeight  = 96
	maxText      = 2048
	maxData      = 16 << 10
	maxArrayData = 16 << 10
)

// budget bounds what all containers of a file hold together.
type budget struct {
	held int
	// late says that something active was put into a container that was in another one already, which does not know.
	late bool
	// labels is what small arrays hold. They are never forgotten, since a classifier shares its labels with others within it.
	labels int
}

// takeArray says whether there is room for the content of an array.
func (b *budget) takeArray(a *array) bool {
	if !a.small() {
		return b.take(a.weight())
	}
	if b.labels+a.weight() > maxLabels {
		return false
	}
	b.labels += a.weight()
	return true
}

func (b *budget) take(bytes int) bool { return b.takeUpTo(maxContents, bytes) }

func (b *budget) takeUpTo(most, bytes int) bool {
	if b.held+bytes > most {
		return false
	}
	b.held += bytes
	return true
}

// add puts an item into a list.
func (b *budget) add(l *list, item value) {
	if isActive(item) {
		l.active = true
		b.late = b.late || l.holders > 0
	}
	if len(l.items) < maxItems || isPlain(item) && len(l.items) < maxPlain {
		if b.take(16 + item.weight()) {
			hold(item)
			l.items = append(l.items, item)
			return
		}
	}
	l.more = true
	b.forget(item)
}

// set puts an entry into a dictionary. What an estimator computed, which by scikit-learn's convention has a name that ends in an underscore,
// is forgotten, save what Info tells.
func (b *budget) set(d *dict, key, item value) {
	name, isText := key.(text)
	if isActive(key) || isActive(item) {
		d.active = true
		b.late = b.late || d.holders > 0
	}
	if replaces(key, item) {
		d.replaced = shownName(key)
	}
	if isText && isSpecial(name) || isUnwritten(key) {
		d.special = shownName(key)
	}
	if isText && len(name) > 1 && name[len(name)-1] == '_' && !fitted[name] {
		item = b.hollow(item, name == "estimators_")
	}
	if place, there := d.places[name]; isText && there {
		b.held += item.weight() - d.entries[place].item.weight()
		hold(item)
		d.entries[place].item = item
		return
	}
	most := maxContents
	if isText && vitalTexts[name] || describesField(item) {
		most *= 2 // without these a file cannot be read on
	}
	if len(d.entries) >= maxEntries || !b.takeUpTo(most, entryWeight+key.weight()+item.weight()) {
		d.more = true
		b.forget(item)
		return
	}
	if isText {
		if d.places == nil {
			d.places = map[text]int{}
		}
		d.places[name] = len(d.entries)
	}
	hold(item)
	d.entries = append(d.entries, entry{key, item})
}

// describesField says whether an item is what numpy has of a field: its type and where it begins.
func describesField(item value) bool {
	parts, ok := item.(tuple)
	return ok && len(parts.items) > 1 && dtypeOf(parts.items[0]) != nil
}

// fitted are the attributes that Info tells of, or follows.
var fitted = map[text]bool{
	"classes_": true, "feature_names_in_": true, "n_features_in_": true, "best_estimator_": true, "estimator_": true, "regressor_": true,
}

// isSpecial says whether Python itself looks for an attribute of this name. Those that only describe are harmless, and scipy's distributions
// have them.
func isSpecial(name text) bool {
	return len(name) > 4 && name[:2] == "__" && name[len(name)-2:] == "__" && name != "__doc__" && name != "__name__"
}

// isUnwritten says whether a key is not known, while Python may take it for the name of an attribute: a text that is computed, or escaped.
func isUnwritten(key value) bool {
	switch key.(type) {
	case opaque, lost, *object:
		return true
	}
	return false
}

// shownName is a name as a reason has it.
func shownName(key value) text {
	if name, ok := key.(text); ok {
		return name
	}
	return "a name that is not written out"
}

// isPlain says whether a value holds no others.
func isPlain(v value) bool {
	switch v.(type) {
	case tuple, *list, *dict, *object:
		return false
	}
	return true
}

// hollow forgets an item and returns what stays of it: its shape, without what it held; of a list the first item, where that is asked for.
func (b *budget) hollow(item value, first bool) value {
	if all, ok := item.(*list); ok && first && len(all.items) > 0 {
		for _, other := range all.items[1:] {
			b.held -= 16 + other.weight()
			b.release(other)
		}
		all.items, all.more = all.items[:1:1], all.more || len(all.items) > 1
		return all
	}
	b.forget(item)
	if _, ok := item.(tuple); ok {
		return opaque{}
	}
	return item
}

// forget gives back what a value holds that no container keeps.
func (b *budget) forget(v value) {
	if !isPlain(v) {
		hold(v)
		b.release(v)
	}
}

// release ends that a container keeps a value, and gives back what it holds where that was the last. It works off a stack of its own, since a
// hostile file nests deep.
func (b *budget) release(v value) {
	pending := []value{v}
	for len(pending) > 0 {
		last := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if counted, ok := last.(interface{ count() *holders }); ok {
			if *counted.count()--; *counted.count() > 0 {
				continue
			}
		}
		switch v := last.(type) {
		case tuple:
			pending = append(pending, v.items...)
		case *list:
			for _, item := range v.items {
				b.held -= 16 + item.weight()
			}
			pending = append(pending, v.items...)
			v.items, v.more = nil, v.more || len(v.items) > 0
		case *dict:
			for _, e := range v.entries {
				b.held -= entryWeight + e.key.weight() + e.item.weight()
				pending = append(pending, e.item)
			}
			v.more = v.more || len(v.entries) > 0
			v.entries, v.places = nil, nil
		case *object:
			if v.state != nil {
				pending = append(pending, v.state)
				v.state = nil
			}
			if v.array != nil && !v.array.small() {
				b.held -= v.array.weight()
				if v.array.items != nil {
					pending = append(pending, v.array.items)
				}
				v.array = nil
			}
		}
	}
}
