package hub

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/langbiang/langbiang/pkg/internal/testutil"
)

var updateScripts = flag.Bool("update", false, "write the expected output of the scripts anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"langbiang-hub": func() {
			os.Exit(Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr))
		},
	})
}

// The scripts in testdata/script are what people type, and what they read.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *updateScripts,
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"ADDR1", "ADDR2", "ADDR3"} {
				e.Setenv(name, testutil.FreeAddress(t))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitlisten": testutil.WaitListen},
	})
}
