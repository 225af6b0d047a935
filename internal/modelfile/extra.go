package modelfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// pickleEndings are those of names by which people, and programs, take a file for a pickle, and load it as one.
var pickleEndings = []string{".pkl", ".pickle", ".joblib", ".cloudpickle", ".skops"}

// InspectExtra reads a file that lies beside a model, as Inspect does where a consumer would load it like one. Such is a file whose name ends as
// those of pickles do, and any other that pickle, joblib or skops would read, by its content; loads is false for the rest, which is data and left
// unread behind its beginning. A file of the first kind that cannot be read to its last byte is no error, but refused: what stands before the
// damage is executed all the same. An error is one of r or ctx. Info.SHA256 is left empty.
func InspectExtra(ctx context.Context, r io.Reader, name string) (info Info, loads bool, err error) {
	source := &source{ctx: ctx, file: r, r: r}
	info, found, err := read(source)
	if source.failed != nil {
		return Info{}, false, fmt.Errorf("read extra file: %w", source.failed)
	}
	named := slices.Contains(pickleEndings, strings.ToLower(path.Ext(name)))
	var damage *FormatError
	switch {
	case err == nil:
		info.SizeBytes = source.read
	case !errors.As(err, &damage):
		return Info{}, false, err
	case !named && !found.isPickle():
		return Info{}, false, nil
	default:
		info = Info{Compression: damage.Compression, Modules: found.modules(), Globals: found.names(), Reasons: found.reasons}
		info.Reasons = append(info.Reasons, Reason{
			Severity: Deceptive, Offset: damage.Offset, Problem: "it cannot be read to its last byte: " + damage.Problem,
		})
	}
	return Policy{}.Judge(info), true, nil
}

// isPickle says whether what was found before a file broke off is more than chance: text, too, may begin with some opcodes.
func (f *findings) isPickle() bool { return f.announced || f.calls }
