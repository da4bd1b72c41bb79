package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

func reloadCommand() settings.Command[*Plan] {
	return settings.Command[*Plan]{
		Use: "reload", Short: "let the running agent read its configuration anew; a faulty one changes nothing",
		Run: func(ctx context.Context, c settings.Call, plan *Plan) error {
			var out Reloaded
			err := order(ctx, plan.Config.DataDir, "/reload", nil, &out)
			var no refused
			switch {
			case errors.As(err, &no):
				return fmt.Errorf("%w\nthe agent goes on as before", no)
			case err != nil:
				return err
			}
			text := "reloaded"
			for _, part := range []struct {
				what string
				ids  []string
			}{{"undisturbed", out.Kept}, {"stopped", out.Stopped}, {"started", out.Started}} {
				if len(part.ids) > 0 {
					text += fmt.Sprintf("; %s: %s", part.what, strings.Join(part.ids, ", "))
				}
			}
			if len(out.Restart) > 0 {
				text += fmt.Sprintf("\nchanged too, and taken at the next start of the agent (systemctl restart langbiang-edge): %s", strings.Join(out.Restart, ", "))
			}
			if plan.hub != nil {
				text += fmt.Sprintf("\nthe hub decides: filters, connections and devices are those of its version %d, not of edge.yaml (langbiang-edge owner)", plan.hub.Version)
			}
			_, err = fmt.Fprintln(c.Stdout, text)
			return err
		},
	}
}

// reloadOnHangup reloads the agent whenever the process gets SIGHUP, until ctx
// ends. The agent logs what comes of it.
func reloadOnHangup(ctx context.Context, a *Agent) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			_, _ = a.Reload(ctx)
		}
	}
}
