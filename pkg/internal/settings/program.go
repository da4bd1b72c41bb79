package settings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// Program is a command line whose commands all begin with loading one
// configuration file into a P.
type Program[P any] struct {
	Name, Short string
	Version     string // as the build gave it, may be empty
	ConfigPath  string // where the file stands when --config does not say
	// Defaults points to the configuration struct whose scalars get flags.
	Defaults any
	// Load reads the file; o is to be applied over what it says.
	Load     func(path string, o *Overrides) (P, error)
	Commands []Command[P]
}

// Command is one of a program's commands.
type Command[P any] struct {
	Use, Short string
	Run        func(ctx context.Context, c Call, plan P) error
}

// Call is what a command is called with.
type Call struct {
	Config         string // path of the configuration
	Version        string
	Stdout, Stderr io.Writer
}

// Main runs the command line and returns the exit status. SIGINT and SIGTERM
// end the context of the command.
func (p *Program[P]) Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	call := Call{Version: Version(p.Version), Stdout: stdout, Stderr: stderr}
	root := &cobra.Command{
		Use: p.Name, Short: p.Short,
		// Errors are printed once, by us.
		SilenceErrors: true, SilenceUsage: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ran := false
	for _, c := range p.Commands {
		cmd := &cobra.Command{Use: c.Use, Short: c.Short, Args: cobra.NoArgs}
		cmd.Flags().StringVar(&call.Config, "config", p.ConfigPath, "configuration file")
		o, err := Register(cmd.Flags(), p.Defaults)
		cmd.RunE = func(cmd *cobra.Command, _ []string) error {
			if err != nil {
				return err
			}
			plan, err := p.Load(call.Config, o)
			if err != nil {
				return err
			}
			ran = true
			return c.Run(cmd.Context(), call, plan)
		}
		root.AddCommand(cmd)
	}
	root.AddCommand(&cobra.Command{Use: "version", Short: "print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintf(stdout, "%s %s %s/%s %s\n", p.Name, call.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return err
	}})
	return p.report(root.ExecuteContext(ctx), ran, stderr)
}

// report prints an error as its reader needs it and chooses the exit status.
func (p *Program[P]) report(err error, ran bool, stderr io.Writer) int {
	if err == nil {
		return ExitOK
	}
	var faults strictyaml.Errors
	if !ran && errors.As(err, &faults) {
		_, _ = fmt.Fprintln(stderr, faults.Error())
		if len(faults) > 1 {
			_, _ = fmt.Fprintf(stderr, "%d faults\n", len(faults))
		}
		return ExitUsage
	}
	_, _ = fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
	if ran {
		return ExitFailed
	}
	return ExitUsage
}

// Count writes a number with its noun: 1 device, 2 devices.
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
