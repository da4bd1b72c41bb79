package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
	"github.com/langbiang/langbiang/pkg/telemetry"
)

// ErrUnknown says that no profile has the id.
var ErrUnknown = errors.New("unknown profile")

const (
	profileEnd = ".yaml"
	fixtureEnd = ".fixtures.yaml"
	maxFile    = 1 << 20
)

// Library finds profiles in one or several trees of VENDOR/MODEL.yaml. It is
// safe for concurrent use.
type Library struct {
	q    telemetry.Quantities
	tree []fs.FS

	mu   sync.Mutex
	read map[string]result
}

type result struct {
	p   *Profile
	err error
}

// Open makes a library over trees; a profile in a later tree overrides the one
// of the same id in an earlier one. Nothing is read yet: a profile is parsed
// when it is first asked for, and a broken one is the fault of its devices
// alone.
func Open(q telemetry.Quantities, fsys ...fs.FS) *Library {
	return &Library{q: q, tree: fsys, read: map[string]result{}}
}

// Dir is a tree in a folder; its name stands in error messages.
func Dir(name string) fs.FS { return dir{os.DirFS(name), name} }

type dir struct {
	fs.FS
	name string
}

// fileName is what errors call a file of a tree.
func fileName(tree fs.FS, name string) string {
	if d, ok := tree.(dir); ok {
		return filepath.Join(d.name, filepath.FromSlash(name))
	}
	return path.Join("firmware-profiles", name)
}

// Get returns the profile "vendor/model". The error is ErrUnknown, with the
// nearest name in its text, or a strictyaml.Errors with what is wrong in the
// file. The profile is shared: it must not be changed.
func (l *Library) Get(id string) (*Profile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.read[id]; ok {
		return r.p, r.err
	}
	p, err := l.load(id)
	if !errors.Is(err, ErrUnknown) { // what nobody has is not worth remembering
		l.read[id] = result{p, err}
	}
	return p, err
}

func (l *Library) load(id string) (*Profile, error) {
	if validID(id) {
		for _, tree := range slices.Backward(l.tree) {
			name := id + profileEnd
			data, err := readFile(tree, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("profile %s: %w", id, err)
			}
			return ParseProfile(id, fileName(tree, name), data, l.q)
		}
	}
	if hint := nearProfile(id, l.IDs()); hint != "" {
		return nil, fmt.Errorf("%w %q; %s", ErrUnknown, id, hint)
	}
	return nil, fmt.Errorf("%w %q", ErrUnknown, id)
}

// nearProfile finds a near id, also by the model alone or by the vendor.
func nearProfile(id string, ids []string) string {
	if near := strictyaml.Nearest(id, ids); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	vendor, model, ok := strings.Cut(id, "/")
	if !ok {
		vendor, model = "", id
	}
	var models, ofVendor []string
	for _, known := range ids {
		v, m, _ := strings.Cut(known, "/")
		models = append(models, m)
		if v == vendor {
			ofVendor = append(ofVendor, known)
		}
	}
	if near := strictyaml.Nearest(model, models); near != "" {
		return fmt.Sprintf("did you mean %q?", ids[slices.Index(models, near)])
	}
	if len(ofVendor) > 0 {
		return "of this vendor there are " + strings.Join(ofVendor, ", ")
	}
	return strictyaml.Meant(id, ids)
}

// IDs returns the ids of all profiles, the broken ones among them, in order.
func (l *Library) IDs() []string {
	var ids []string
	for _, tree := range l.tree {
		names, err := fs.Glob(tree, "*/*"+profileEnd)
		if err != nil {
			continue // only a bad pattern is an error here
		}
		for _, name := range names {
			id := strings.TrimSuffix(name, profileEnd)
			if !strings.HasSuffix(name, fixtureEnd) && validID(id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Fixtures returns the file of fixtures that stands beside a profile, in the
// same tree, and its name. It is fs.ErrNotExist when there is none.
func (l *Library) Fixtures(id string) (file string, data []byte, err error) {
	for _, tree := range slices.Backward(l.tree) {
		if _, err := fs.Stat(tree, id+profileEnd); err != nil {
			continue
		}
		data, err = readFile(tree, id+fixtureEnd)
		return fileName(tree, id+fixtureEnd), data, err
	}
	return "", nil, fmt.Errorf("%w %q", ErrUnknown, id)
}

// validID reports whether an id is VENDOR/MODEL, both of them plain names.
func validID(id string) bool {
	vendor, model, ok := strings.Cut(id, "/")
	if !ok {
		return false
	}
	for _, part := range []string{vendor, model} {
		if msg, _ := checkName(part); msg != "" {
			return false
		}
	}
	return true
}

// readFile reads no more of a file than a profile may have.
func readFile(tree fs.FS, name string) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}
