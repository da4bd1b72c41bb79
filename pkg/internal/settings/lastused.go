package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lastUsedName is a file in the data folder of either program: one line, its name and
// its version. Nothing depends on it; it lets a refusal say what to install.
const lastUsedName = "last-used-by"

// NoteUse writes down which program uses a data folder, once it has opened all that
// stands there.
func NoteUse(dir, name, version string) error {
	path, line := filepath.Join(dir, lastUsedName), name+" "+version+"\n"
	if old, err := os.ReadFile(path); err == nil && string(old) == line {
		return nil
	}
	if err := os.WriteFile(path+".new", []byte(line), 0o640); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Newer completes the error of a file in a data folder that a newer program wrote: it
// says which that was, as far as is known, and what to do. back is the way of those
// who want the older program all the same.
func Newer(err error, dir, name, back string) error {
	install := "the " + name + " that wrote it"
	if line, e := os.ReadFile(filepath.Join(dir, lastUsedName)); e == nil {
		if last := strings.TrimSpace(string(line)); strings.HasPrefix(last, name+" ") && len(last) < 200 && !strings.ContainsAny(last, "\n\r") {
			install = last
		}
	}
	return fmt.Errorf("%w; nothing was changed. Install %s or a newer one; %s: docs/upgrade.md", err, install, back)
}
