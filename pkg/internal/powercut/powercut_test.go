package powercut

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const workerEnv = "LANGBIANG_POWERCUT_TEST_WORKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerEnv); dir != "" {
		if err := worker(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// worker writes files in all the ways that people think are durable.
func worker(dir string) error {
	for i := 0; ; i++ {
		content := bytes.Repeat([]byte(fmt.Sprintf("content %d;", i)), 500)
		for _, way := range []struct {
			name                        string
			sync, syncDir, rename, fold bool
		}{
			{name: "careless"},
			{name: "nodir", sync: true},
			{name: "right", sync: true, syncDir: true},
			{name: "renamed", sync: true, rename: true, syncDir: true},
			{name: "unsynced", rename: true, syncDir: true},
			{name: "folder", sync: true, syncDir: true, fold: true},
		} {
			in := dir
			if way.fold {
				in = filepath.Join(dir, fmt.Sprint("folder", i))
				if err := os.Mkdir(in, 0o755); err != nil {
					return err
				}
			}
			path := filepath.Join(in, fmt.Sprint(way.name, i))
			to := path
			if way.rename {
				path += ".tmp"
			}
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			if _, err := f.Write(content); err != nil {
				return err
			}
			if way.sync {
				if err := f.Sync(); err != nil {
					return err
				}
			}
			if err := f.Close(); err != nil {
				return err
			}
			if way.rename {
				if err := os.Rename(path, to); err != nil {
					return err
				}
			}
			for d := in; way.syncDir; d = filepath.Dir(d) {
				h, err := os.Open(d)
				if err != nil {
					return err
				}
				if err := h.Sync(); err != nil {
					return err
				}
				_ = h.Close()
				if d == dir {
					break
				}
			}
		}
		if err := Ack(dir, fmt.Sprint(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// What was made durable properly is there after every cut; what was not is lost in
// some, and torn in some.
func TestImagesLoseWhatWasNotFsyncedAndNothingElse(t *testing.T) {
	lost, torn, cuts := map[string]int{}, map[string]int{}, 0
	Victim{
		Command: func(dir string) *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), workerEnv+"="+dir)
			return cmd
		},
		Lines: 12, Cuts: 80,
		Check: func(t *testing.T, dir, promise string) {
			cuts++
			var n int
			if _, err := fmt.Sscan(promise, &n); err != nil {
				return
			}
			for i := range n + 1 {
				want := bytes.Repeat([]byte(fmt.Sprintf("content %d;", i)), 500)
				for _, way := range []string{"careless", "nodir", "right", "renamed", "unsynced", "folder"} {
					path := filepath.Join(dir, fmt.Sprint(way, i))
					if way == "folder" {
						path = filepath.Join(dir, fmt.Sprint("folder", i), fmt.Sprint(way, i))
					}
					switch b, err := os.ReadFile(path); {
					case err != nil:
						lost[way]++
					case !bytes.Equal(b, want):
						torn[way]++
					}
				}
			}
		},
	}.Run(t, 1)
	if cuts == 0 {
		return // no FUSE, and said so
	}
	for _, way := range []string{"right", "renamed", "folder"} {
		if lost[way]+torn[way] > 0 {
			t.Errorf("%s: %d lost, %d torn", way, lost[way], torn[way])
		}
	}
	// The folder's fsync for the files after it makes the names of all durable.
	if torn["careless"] == 0 || torn["unsynced"] == 0 || torn["nodir"] > 0 {
		t.Errorf("lost %v, torn %v", lost, torn)
	}
}

func TestTheSameSeedGivesTheSameImage(t *testing.T) {
	r := &Recorder{ops: []op{
		{kind: opMkdir, path: "d"},
		{kind: opCreate, file: 1, path: "d/a"},
		{kind: opWrite, file: 1, data: bytes.Repeat([]byte("x"), 3000)},
		{kind: opRename, path: "d", to: "e"},
		{kind: opWrite, file: 1, off: 1000, data: bytes.Repeat([]byte("y"), 9000)},
		{kind: opTruncate, file: 1, off: 5000},
	}}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		var two []string
		for range 2 {
			dir := t.TempDir()
			if err := r.Image(rand.New(rand.NewPCG(seed, 1)), len(r.ops), dir); err != nil {
				t.Fatal(err)
			}
			var all strings.Builder
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				fmt.Fprintf(&all, "%s %s\n", strings.TrimPrefix(path, dir), b)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			two = append(two, all.String())
		}
		if two[0] != two[1] {
			t.Fatalf("seed %d gives two images", seed)
		}
		seen[two[0]] = true
	}
	if len(seen) < 50 {
		t.Errorf("only %d different images", len(seen))
	}
}
