package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/langbiang/langbiang/pkg/ledger"
	"github.com/langbiang/langbiang/pkg/tsdb/local"
	"github.com/langbiang/langbiang/pkg/tsdb/texts"
)

// castagnoli is the checksum of our files.
func castagnoli(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), p)
	}
	return sum
}

// newer is a file with its version counted on, as a newer program would write it.
type newer struct {
	name    string
	file    string // in the golden folder, a pattern
	count   func(path string) error
	program string // with its command, or in place of run
	says    string // DIR: where the folder is
}

const (
	hubWay  = "; nothing was changed. Install langbiang-hub v9.1.0 or a newer one; to go back to this version, restore a backup that it made: docs/upgrade.md"
	edgeWay = "; nothing was changed. Install langbiang-edge v9.1.0 or a newer one; to go back to this version, move DIR/edge/log away: readings in it that the hub has not got wait there for a newer agent: docs/upgrade.md"
)

// counts is how a refusal names the formats.
func counts(known int) string {
	return fmt.Sprintf("(format %d, this one knows up to %d)", known+1, known)
}

// counted are all formats that have a version of their own.
func counted() []newer {
	list := []newer{
		{"the ledger", "hub/ledger/ledger.db", inBolt("meta", "version", u32BE), "", "ledger: ledger DIR/hub/ledger/ledger.db: written by a newer langbiang-hub " + counts(ledger.FormatVersion) + hubWay},
		{"the position of an edge", "hub/ledger/ledger.db", inBolt("positions", edgeID, firstByte(3)), "", "ingest: ingest: position of edge test-01: written by a newer langbiang-hub (format 3, this one knows up to 2)" + hubWay},
		{"the rule state of an edge", "hub/ledger/ledger.db", inBolt("state", edgeID, firstByte(6)), "", "ingest: ingest: rule state of edge test-01: edge test-01: saved rule state cannot be read: written by a newer langbiang-hub (format 6, this one knows up to 5)" + hubWay},
		{"the store", "hub/tsdb/format", storeFormat, "", "store: open store: DIR/hub/tsdb: format: written by a newer langbiang-hub " + counts(local.FormatVersion) + hubWay},
		{"late marks of long history", "hub/tsdb/history/state.json", jsonVersion, "", "store: open store: DIR/hub/tsdb: history: DIR/hub/tsdb/history/state.json: written by a newer langbiang-hub (format 2, this one knows up to 1)" + hubWay},
		{"texts", "hub/texts/texts.db", inBolt("meta", "version", u32BE), "", "texts: texts.db: written by a newer langbiang-hub " + counts(texts.FormatVersion) + hubWay},
		{"derived series", "hub/derived.json", jsonVersion, "", "derived series: DIR/hub/derived.json: written by a newer langbiang-hub (format 2, this one knows up to 1)" + hubWay},
		{"the log of a pushed source", "hub/push/roadside/seg-*.db", segmentFormat, "", "push: log of source roadside: seg-0000000000.db: written by a newer version of this program (format 2, this one knows up to 1)" + hubWay},
		{"the log of an edge", "edge/log/seg-*.db", segmentFormat, "langbiang-edge run", "log DIR/edge/log: seg-0000000000.db: written by a newer version of this program (format 2, this one knows up to 1)" + edgeWay},
		{"the log of an edge, looked at", "edge/log/seg-*.db", segmentFormat, "langbiang-edge queue status", "seg-0000000000.db: written by a newer version of this program (format 2, this one knows up to 1)" + edgeWay},
		{"small values of an edge", "edge/log/meta*", metaFormat, "langbiang-edge run", "log DIR/edge/log: DIR/edge/log/meta: written by a newer version of this program (format 2, this one knows up to 1)" + edgeWay},
		{"what small values of an edge mean", "edge/log/meta*", stateFormat, "langbiang-edge run", "log DIR/edge/log: small values: written by a newer version of this program (format 2, this one knows up to 1)" + edgeWay},
	}
	for i := range list {
		if list[i].program == "" {
			list[i].program = "langbiang-hub run"
		}
	}
	return list
}

func u32BE(v []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(v)+1)
}

func firstByte(b byte) func([]byte) []byte {
	return func(v []byte) []byte { return append([]byte{b}, v[1:]...) }
}

// inBolt changes a value of a bbolt file.
func inBolt(bucket, name string, change func([]byte) []byte) func(string) error {
	return func(path string) error {
		return withBolt(path, func(b func(string) *bolt.Bucket) error {
			return b(bucket).Put([]byte(name), change(bytes.Clone(b(bucket).Get([]byte(name)))))
		})
	}
}

func withBolt(path string, change func(bucket func(string) *bolt.Bucket) error) error {
	db, err := bolt.Open(path, 0o640, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return change(func(name string) *bolt.Bucket { return tx.Bucket([]byte(name)) })
	})
	if e := db.Close(); err == nil {
		err = e
	}
	return err
}

func segmentFormat(path string) error {
	return withBolt(path, func(bucket func(string) *bolt.Bucket) error {
		about := bucket("about")
		v := bytes.Clone(about.Get([]byte("format")))
		v[len(v)-4]++
		check := binary.LittleEndian.AppendUint32(nil, castagnoli([]byte("format"), v))
		if err := about.Put([]byte("format-check"), check); err != nil {
			return err
		}
		return about.Put([]byte("format"), v)
	})
}

func storeFormat(path string) error {
	s := fmt.Sprintf("langbiang-store %d", local.FormatVersion+1)
	return os.WriteFile(path, fmt.Appendf(nil, "%s %08x\n", s, castagnoli([]byte(s))), 0o640)
}

// jsonVersion counts the version of a JSON file, which need not be there.
func jsonVersion(path string) error {
	m := map[string]json.RawMessage{}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	m["version"] = json.RawMessage("2")
	if b, err = json.Marshal(m); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o640)
}

func metaFormat(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[6]++
	return os.WriteFile(path, b, 0o640)
}

func stateFormat(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := []byte("state-version")
	i := bytes.Index(b, name)
	if i < 0 {
		return fmt.Errorf("%s has no state-version", path)
	}
	b[i+len(name)]++
	binary.LittleEndian.PutUint32(b[12:], castagnoli(b[16:]))
	return os.WriteFile(path, b, 0o640)
}

func TestGoldenFilesOfANewerVersionAreRefusedByNameAndLeftAlone(t *testing.T) {
	archives := goldens(t)
	g := openGolden(t, archives[len(archives)-1])
	for _, p := range []string{"hub", "edge"} {
		g.write(p+"/used-by", "langbiang-"+p+" v9.1.0 2031-01-01T00:00:00Z\n")
	}
	refused := func(t *testing.T, says string, args ...string) {
		t.Helper()
		config := "hub.yaml"
		if args[0] == "langbiang-edge" {
			config = "edge.yaml"
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, filepath.Join(bin, args[0]), append(args[1:], "--config", filepath.Join(g.dir, config))...).CombinedOutput()
		says = strings.ReplaceAll(says, "DIR", g.dir)
		if err == nil || ctx.Err() != nil || !strings.Contains(string(out), says) {
			t.Errorf("%v; want\n%s\ngot\n%s", err, says, out)
		}
	}
	for _, c := range counted() {
		t.Run(c.name, func(t *testing.T) {
			was, is := map[string][]byte{}, map[string][]byte{}
			files, err := filepath.Glob(filepath.Join(g.dir, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if len(files) == 0 {
				files = []string{filepath.Join(g.dir, c.file)} // one that is made when there is need
			}
			for _, f := range files {
				if was[f], err = os.ReadFile(f); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				if err := c.count(f); err != nil {
					t.Fatal(err)
				}
				if is[f], err = os.ReadFile(f); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, c.says, strings.Fields(c.program)...)
			for f, before := range is {
				after, err := os.ReadFile(f)
				// The ledger is opened, and goes on, before what the others hold is met.
				if err != nil || !bytes.Equal(before, after) && c.name != "the position of an edge" && c.name != "the rule state of an edge" {
					t.Errorf("%s was changed (%v)", f, err)
				}
				if was[f] == nil {
					err = os.Remove(f)
				} else {
					err = os.WriteFile(f, was[f], 0o640)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}

	// A backup.
	g.startHub()
	backup := filepath.Join(g.dir, "backup")
	if out, err := g.command("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	g.hub.stop()
	g.hub = nil
	path := filepath.Join(backup, "manifest.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, known := range map[string]int{"version": 1, "ledger": ledger.FormatVersion, "tsdb": local.FormatVersion, "texts": texts.FormatVersion} {
		changed := strings.Replace(string(whole), fmt.Sprintf("%q: %d", name, known), fmt.Sprintf("%q: %d", name, known+1), 1)
		if changed == string(whole) {
			t.Errorf("the manifest does not say %s %d", name, known)
		}
		g.write("backup/manifest.json", changed)
		refused(t, "which is newer than this program; install that version or a newer one, or take an older backup", "langbiang-hub", "restore", backup)
	}
}
