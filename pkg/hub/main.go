package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// Main runs the command line of langbiang-hub and returns its exit status: 0
// fine, 1 it failed, 2 the configuration or the call is wrong.
func Main(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	defaults := DefaultConfig()
	p := settings.Program[*Plan]{
		Name: "langbiang-hub", Short: "The Langbiang hub: stores the readings of all edges, judges rules, serves alerts",
		Version: version, ConfigPath: "/etc/langbiang/hub.yaml", Defaults: &defaults,
		Load: func(path string, o *settings.Overrides) (*Plan, error) {
			return Load(path, func(c *Config) error { return o.Apply(c) })
		},
		Commands: []settings.Command[*Plan]{
			{Use: "run", Short: "run the hub until it is told to stop", Run: run},
			{Use: "rules", Short: "work with rules", Commands: []settings.Command[*Plan]{
				checkRulesCommand(), testRulesCommand(), backtestCommand(), reloadCommand(), fireCommand(),
			}},
			{Use: "edges", Short: "work with edges", Commands: []settings.Command[*Plan]{
				listEdgesCommand(),
				{Use: "config", Short: "work with what edges are to run: their connections, devices and filters", Commands: edgeConfigCommands()},
				tokenCommand(), revokeCommand(), certificatesCommand(), askEdgeCommand(), forgetCommand(),
			}},
			{Use: "users", Short: "work with those who sign in", Commands: []settings.Command[*Plan]{listUsersCommand(), putUserCommand(), removeUserCommand()}},
			{Use: "tokens", Short: "work with the tokens of machines and screens", Commands: []settings.Command[*Plan]{listTokensCommand(), newTokenCommand(), removeTokenCommand()}},
			setupCommand(), auditCommand(), backupCommand(), restoreCommand(), exportCommand(),
			{Use: "deliveries", Short: "work with the targets that alerts are carried to", Commands: deliveryCommands()},
			{Use: "notify", Short: "try what tells people and systems", Commands: []settings.Command[*Plan]{notifyTestCommand()}},
			doctorCommand(),
			{Use: "check", Short: "say everything that is wrong with the configuration, sites and rules, and change nothing", Run: check},
		},
	}
	return p.Main(ctx, args, stdout, stderr)
}

func run(ctx context.Context, c settings.Call, plan *Plan) error {
	setCollector()
	logger := settings.NewLogger(c.Stderr, plan.Config.Log.Level, plan.Config.Log.Format)
	settings.LimitMemory(int64(plan.Config.MemoryLimit), logger)
	for _, w := range plan.Warnings {
		logger.Warn("configuration", "warning", w.Error())
	}
	for {
		err := runOnce(ctx, plan, c.Version, logger)
		if !errors.Is(err, ErrRestart) {
			return err
		}
		logger.Info("the hub starts anew with what was said at the setup")
	}
}

func runOnce(ctx context.Context, plan *Plan, version string, logger *slog.Logger) error {
	h, err := Open(plan, version, logger)
	if err != nil {
		return newer(err, plan.Config.DataDir, version)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hup:
				h.reload()
			case <-done:
				return
			}
		}
	})
	err = h.Run(ctx)
	close(done)
	wg.Wait()
	return errors.Join(newer(err, plan.Config.DataDir, version), h.Close())
}

func check(_ context.Context, c settings.Call, plan *Plan) error {
	for _, w := range plan.Warnings {
		_, _ = fmt.Fprintf(c.Stderr, "%s (warning)\n", w.Error())
	}
	_, err := fmt.Fprintf(c.Stdout, "%s: fine: %s, %s\n", c.Config,
		settings.Count(len(plan.Sites), "site"), settings.Count(plan.Set.Written().Len(), "rule"))
	return err
}
