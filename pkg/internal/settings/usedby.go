package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// usedByName is a file in the data folder of either program: a line for each version
// that has used it, with its name and the time of its first start, the newest last.
// Nothing depends on it; it lets a refusal say what to install.
const usedByName = "used-by"

// maxUses bounds the lines.
const maxUses = 32

// uses reads the lines, each as name, version and time.
func uses(dir string) (list [][3]string) {
	b, err := os.ReadFile(filepath.Join(dir, usedByName))
	if err != nil || len(b) > 64<<10 {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			list = append(list, [3]string(f))
		}
	}
	return list
}

// NoteUse writes down that this version of a program uses a data folder.
func NoteUse(dir, name, version string, now time.Time) error {
	list := uses(dir)
	if n := len(list); n > 0 && list[n-1][0] == name && list[n-1][1] == version {
		return nil
	}
	list = append(list, [3]string{name, version, now.UTC().Format(time.RFC3339)})
	var b strings.Builder
	for _, u := range list[max(0, len(list)-maxUses):] {
		b.WriteString(strings.Join(u[:], " ") + "\n")
	}
	path := filepath.Join(dir, usedByName)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o640); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Newer completes the error of a file in a data folder that a newer program wrote: it
// says which that was, as far as is known, and what to do. version is this program's;
// back is the way of those who want it all the same.
func Newer(err error, dir, name, version, back string) error {
	install := "the " + name + " that wrote it"
	for _, u := range slices.Backward(uses(dir)) {
		if u[0] == name && u[1] != version {
			install = name + " " + u[1]
			break
		}
	}
	return fmt.Errorf("%w; nothing was changed. Install %s or a newer one; %s: docs/upgrade.md", err, install, back)
}
