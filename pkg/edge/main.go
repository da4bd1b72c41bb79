package edge

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// defaultPath is where edge.yaml stands when --config does not say.
const defaultPath = "/etc/langbiang/edge.yaml"

// Main runs the command line of langbiang-edge and returns its exit status: 0
// fine, 1 it failed, 2 the configuration or the call is wrong.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	defaults := DefaultConfig()
	simulated := false
	p := settings.Program[*Plan]{
		Name: "langbiang-edge", Short: "The Langbiang agent: reads the devices of a gateway and sends their readings to the hub",
		Version: version, ConfigPath: defaultPath, Defaults: &defaults,
		Flags: func(f *pflag.FlagSet) {
			f.BoolVar(&simulated, "simulated", false, "read the devices that langbiang-edge simulate serves in another terminal, in place of the real ones")
		},
		Load: func(path string, o *settings.Overrides) (*Plan, error) {
			if simulated {
				return loadSimulated(path, o)
			}
			return Load(path, func(c *Config) error { return o.Apply(c) })
		},
		Commands: []settings.Command[*Plan]{
			{Use: "run", Short: "run the agent until it is told to stop", Run: run},
			initCommand(), enrollCommand(), checkCommand(), statusCommand(), readCommand(), whyCommand(), planCommand(), doctorCommand(), reloadCommand(), ownerCommand(), maintainCommand(), replaceCommand(), writeCommand(), traceCommand(), logCommand(), pageCommand(),
			profilesCommand(), scanCommand(), simulateCommand(), queueCommand(),
		},
	}
	return p.Main(ctx, args, stdout, stderr)
}

func run(ctx context.Context, c settings.Call, plan *Plan) error {
	logger := settings.NewLogger(c.Stderr, plan.Config.Log.Level, plan.Config.Log.Format)
	settings.LimitMemory(int64(plan.Config.MemoryLimit), logger)
	for _, w := range plan.Warnings {
		logger.Warn("configuration", "warning", w.Error())
	}
	a, err := Open(plan, c.Version, logger)
	if err != nil {
		return newer(err, plan.Config.DataDir, c.Version)
	}
	hangups, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { reloadOnHangup(hangups, a) })
	err = a.Run(ctx)
	stop()
	wg.Wait()
	return errors.Join(err, a.Close())
}
