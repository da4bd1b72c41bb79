package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	// Flags adds flags to every command that loads the file; nil: none.
	Flags func(*pflag.FlagSet)
	// Load reads the file; o is to be applied over what it says.
	Load     func(path string, o *Overrides) (P, error)
	Commands []Command[P]
}

// Command is one of a program's commands: it has a Run, a Free or further
// Commands below it.
type Command[P any] struct {
	Use, Short, Long string
	Args             cobra.PositionalArgs // nil: it takes none
	// Flags adds flags beside those of the configuration; nil: none.
	Flags func(*pflag.FlagSet)
	// Run works with the loaded configuration.
	Run func(ctx context.Context, c Call, plan P) error
	// Free needs no configuration; it has no --config.
	Free func(ctx context.Context, c Call) error
	// Commands stand below this one: langbiang-edge queue status.
	Commands []Command[P]
}

// Call is what a command is called with.
type Call struct {
	Config         string // path of the configuration
	Version        string
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Main runs the command line and returns the exit status. SIGINT and SIGTERM
// end the context of the command.
func (p *Program[P]) Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	call := &Call{Version: Version(p.Version), Stdin: os.Stdin, Stdout: stdout, Stderr: stderr}
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
	for i := range p.Commands {
		root.AddCommand(p.command(&p.Commands[i], call, &ran))
	}
	root.AddCommand(&cobra.Command{Use: "version", Short: "print the version", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintf(stdout, "%s %s %s/%s %s\n", p.Name, call.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return err
	}})
	return p.report(root.ExecuteContext(ctx), ran, stderr)
}

// command makes a command and those below it. Ran becomes true once the call and
// the configuration were found right.
func (p *Program[P]) command(c *Command[P], call *Call, ran *bool) *cobra.Command {
	cmd := &cobra.Command{Use: c.Use, Short: c.Short, Long: c.Long, Args: c.Args}
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	if c.Flags != nil {
		c.Flags(cmd.Flags())
	}
	for i := range c.Commands {
		cmd.AddCommand(p.command(&c.Commands[i], call, ran))
	}
	switch {
	case c.Free != nil:
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			call.Args, *ran = args, true
			return c.Free(cmd.Context(), *call)
		}
	case c.Run != nil:
		cmd.Flags().StringVar(&call.Config, "config", p.ConfigPath, "configuration file")
		if p.Flags != nil {
			p.Flags(cmd.Flags())
		}
		o, err := Register(cmd.Flags(), p.Defaults)
		if c.Use != "run" { // the help of a command shows what is its own
			o.Hide(cmd.Flags())
			cmd.Long = strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short) + "\n\nSettings of the file can be given as flags, too: " + p.Name + " run --help lists them.")
		}
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err != nil {
				return err
			}
			plan, err := p.Load(call.Config, o)
			if err != nil {
				return err
			}
			call.Args, *ran = args, true
			return c.Run(cmd.Context(), *call, plan)
		}
	}
	return cmd
}

// ErrUsage is in errors of a command that the call is to blame for: exit status 2.
// [Usagef] makes them.
var ErrUsage = errors.New("wrong call")

// Usagef returns an error that is ErrUsage and reads as said.
func Usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

type usageError string

func (e usageError) Error() string        { return string(e) }
func (e usageError) Is(target error) bool { return target == ErrUsage }

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
	if ran && !errors.Is(err, ErrUsage) {
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
