package e2e

import (
	"archive/tar"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/langbiang/langbiang/pkg/alert"
	"github.com/langbiang/langbiang/pkg/internal/testutil"
	"github.com/langbiang/langbiang/pkg/telemetry"
	"github.com/langbiang/langbiang/pkg/wire"
)

// A golden folder is what real programs left on the disk in the middle of their work:
// the data folders of a hub and of an edge, with their configuration, in one archive
// for each format that was released. listing.json in it says plainly what is in there,
// as the API of those programs said it. Nothing in it opens anything: the authority of
// the hub is left out, and tokens and passwords are kept hashed.
const goldenDir = "testdata/golden"

// goldenListing is listing.json. Fields of the API that came later are not looked at.
type goldenListing struct {
	Program string
	Made    time.Time
	// Samples are those of the store, as time in ms and value, by labels.
	Samples map[string][][2]float64
	// Frames are those of the edge's log.
	Frames []goldenFrame
	// Entries are the alert log. It is never changed, only added to.
	Entries []json.RawMessage
	// Answers are those of the API, by path.
	Answers map[string]json.RawMessage
	// Received is how many entries the receiver had got, and Position where the hub
	// stood in the edge's log.
	Received int
	Position place
}

// goldenFrame is a frame of the edge's log.
type goldenFrame struct {
	Place    place
	Untimed  bool
	Readings int
	Sum      string // of the readings, see readingsSum
}

// goldenPaths are what the listing asks the API for. What stands in them as a list must
// be there with all its fields, at another place perhaps.
var goldenPaths = []string{
	"/api/v1/alerts?limit=1000", "/api/v1/holds?ended=true", "/api/v1/texts?limit=1000", "/api/v1/users", "/api/v1/tokens", "/api/v1/audit",
}

// golden is a folder that is open.
type golden struct {
	line
	listing  goldenListing
	receiver *receiver
	clock    clockFile
}

// receiver is a webhook. It takes entries until it is told to refuse.
type receiver struct {
	mu      sync.Mutex
	refuses bool
	got     []uint64 // sequences
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	var e struct{ Data alert.Entry }
	err := json.NewDecoder(q.Body).Decode(&e)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.refuses {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.got = append(r.got, e.Data.Sequence)
}

func (r *receiver) sequences() []uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// place starts field and receiver and writes the configuration into g.dir; where
// things listen is new each time.
func (g *golden) place(t *testing.T, files map[string]string) {
	t.Helper()
	g.t, g.receiver = t, &receiver{}
	hook := httptest.NewServer(g.receiver)
	t.Cleanup(hook.Close)
	httpAddr, mqtt, modbus, broker, control := testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t), testutil.FreeAddress(t)
	g.http, g.control = "http://"+httpAddr, "http://"+control
	for name, text := range files {
		g.write(name, strings.NewReplacer("@HTTP@", httpAddr, "@BUS@", mqtt, "@MODBUS@", modbus, "@BROKER@", broker, "@HOOK@", hook.URL).Replace(text))
	}
	g.hubArgs = []string{"run", "--config", filepath.Join(g.dir, "hub.yaml")}
	g.field = start(t, "fieldsim", "--modbus-tcp", modbus, "--mqtt", broker, "--control", control, "--steady")
	g.eventually(time.Minute, "the field serves", func() bool { return answers(http.DefaultClient, g.control+"/state") })
}

// startAgent starts the agent with the clock as g.clock says.
func (g *golden) startAgent() {
	g.t.Helper()
	clock := filepath.Join(g.dir, "clock.json")
	if err := g.clock.write(clock); err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], filepath.Join(g.dir, "edge.yaml"))
	cmd.Env = append(os.Environ(), clockEnv+"="+clock)
	g.edge = startCommand(g.t, edgeID, cmd)
}

// list asks the hub for all that the listing has, up to a time.
func (g *golden) list(until time.Time) (l goldenListing) {
	g.t.Helper()
	l = goldenListing{Made: until, Samples: map[string][][2]float64{}, Answers: map[string]json.RawMessage{}, Received: len(g.receiver.sequences()), Position: g.stands()}
	for _, path := range goldenPaths {
		var answer json.RawMessage
		g.get(path, &answer)
		l.Answers[path] = answer
	}
	for _, e := range g.entries() {
		b, err := json.Marshal(e)
		if err != nil {
			g.t.Fatal(err)
		}
		l.Entries = append(l.Entries, b)
	}
	var body struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	q := url.Values{"query": {`{__name__=~".+",edge!="derived"}[6d]`}, "time": {fmt.Sprintf("%.3f", float64(until.UnixMilli())/1000)}}
	g.get("/prometheus/api/v1/query?"+q.Encode(), &body)
	for _, r := range body.Data.Result {
		name, err := json.Marshal(r.Metric) // sorted
		if err != nil {
			g.t.Fatal(err)
		}
		for _, v := range r.Values {
			seconds, _ := v[0].(float64)
			text, _ := v[1].(string)
			var value float64
			if _, err := fmt.Sscan(text, &value); err != nil {
				g.t.Fatalf("sample %v: %v", v, err)
			}
			l.Samples[string(name)] = append(l.Samples[string(name)], [2]float64{math.Round(seconds * 1000), value})
		}
	}
	return l
}

// stands is where the hub stands in the log of the edge.
func (g *golden) stands() place {
	g.t.Helper()
	var edges struct{ Items []edgeState }
	g.get("/api/v1/edges", &edges)
	for _, e := range edges.Items {
		if e.ID == edgeID {
			return e.place
		}
	}
	return place{}
}

// loggedReading is a good or uncertain reading of a number in the edge's log.
type loggedReading struct {
	epoch   string
	untimed bool
	key     key
	t       int64
	v       float64
}

// frames reads the edge's log, which nobody has open.
func (g *golden) frames() (list []goldenFrame, readings []loggedReading) {
	g.t.Helper()
	g.eachFrame(func(pos wire.Pos, f *wire.Frame, schema *telemetry.Schema) {
		list = append(list, goldenFrame{Place: place{pos.Epoch.String(), pos.Seq}, Untimed: f.Untimed, Readings: len(f.Readings), Sum: readingsSum(f.Readings)})
		for i := range f.Readings {
			x, s := &f.Readings[i], &schema.Series[f.Readings[i].Series]
			if !x.Quality.IsBad() && s.Kind != telemetry.KindText {
				readings = append(readings, loggedReading{pos.Epoch.String(), f.Untimed, key{schema.Devices[s.Device].ID, s.Point}, x.Time, x.Value})
			}
		}
	})
	return list, readings
}

// readingsSum is FNV-1a, 64 bits, over the readings of a frame in order of series and
// time: series u32, time i64, bits of the value u64, quality u8, little endian, and the
// text.
func readingsSum(list []telemetry.Reading) string {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b telemetry.Reading) int {
		return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.Time, b.Time))
	})
	h := fnv.New64a()
	for i := range list {
		x := &list[i]
		b := binary.LittleEndian.AppendUint32(nil, uint32(x.Series))
		b = binary.LittleEndian.AppendUint64(b, uint64(x.Time))
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x.Value))
		_, _ = h.Write(append(append(b, byte(x.Quality)), x.Text...)) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// contains reports what of want is not in got: every field of an object, every element
// of a list.
func contains(want, got any, path string) []string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{path + " is gone"}
		}
		var missing []string
		for k := range w {
			missing = append(missing, contains(w[k], g[k], path+"."+k)...)
		}
		return missing
	case []any:
		g, ok := got.([]any)
		if !ok {
			return []string{path + " is gone"}
		}
		var missing []string
		for i, x := range w {
			if !slices.ContainsFunc(g, func(y any) bool { return len(contains(x, y, "")) == 0 }) {
				nearest := contains(x, nil, "")
				for _, y := range g {
					if m := contains(x, y, ""); len(m) < len(nearest) || nearest[0] == " is gone" {
						nearest = m
					}
				}
				missing = append(missing, fmt.Sprintf("%s[%d]%s", path, i, nearest))
			}
		}
		return missing
	}
	if want != got {
		return []string{fmt.Sprintf("%s is %v, was %v", path, got, want)}
	}
	return nil
}

func decoded(t *testing.T, raw json.RawMessage) (v any) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// pack puts a folder into an archive; what must not be in there is left out.
func pack(t *testing.T, dir, archive string) {
	t.Helper()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && slices.Contains([]string{"hub/identity", "hub/bus", "edge/identity"}, filepath.ToSlash(name)):
			return fs.SkipDir
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(b))}); err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// unpack gives a copy of a golden folder.
func unpack(t *testing.T, archive string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o750)
		}
		if err == nil {
			err = os.WriteFile(path, b, 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// openGolden unpacks a folder and gives it a field.
func openGolden(t *testing.T, archive string) *golden {
	t.Helper()
	g := &golden{line: line{dir: unpack(t, archive)}}
	files := map[string]string{}
	for _, name := range []string{"hub.yaml", "edge.yaml"} {
		b, err := os.ReadFile(filepath.Join(g.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	b, err := os.ReadFile(filepath.Join(g.dir, "listing.json"))
	if err == nil {
		err = json.Unmarshal(b, &g.listing)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.place(t, files)
	return g
}
