// Command fieldsim is the simulated field of the demonstration and of the
// end-to-end tests: the devices of three sites, over Modbus TCP, Modbus RTU on
// pseudo-terminals, and MQTT. See package field.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/langbiang/langbiang/scripts/fieldsim/field"
)

func main() { os.Exit(run(os.Args[1:])) }

type paths []string

func (p *paths) String() string { return strings.Join(*p, ",") }

func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

func run(args []string) int {
	var cfg field.Config
	flags := flag.NewFlagSet("fieldsim", flag.ContinueOnError)
	flags.StringVar(&cfg.ModbusTCP, "modbus-tcp", "127.0.0.1:5020", "address of Modbus TCP; empty: none")
	flags.StringVar(&cfg.MQTT, "mqtt", "127.0.0.1:1884", "address of the MQTT broker; empty: none")
	flags.StringVar(&cfg.Control, "control", "", "address of the HTTP control; empty: none")
	flags.Var((*paths)(&cfg.PTYs), "pty", "path at which a serial line appears; may be given several times")
	flags.Float64Var(&cfg.Speed, "speed", 1, "rows of the traces per second (a row is an hour of air, five minutes of traffic)")
	flags.Uint64Var(&cfg.Seed, "seed", 1, "of what the traces do not give")
	flags.BoolVar(&cfg.Steady, "steady", false, "every unit always answers")
	duration := flags.Duration("duration", 0, "stop after this time; 0: when told to")
	record := flags.String("record", "", "file to which every served value is appended, a JSON object per line")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "fieldsim: unknown argument %q\n", flags.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	if err := serve(ctx, cfg, *record); err != nil {
		fmt.Fprintln(os.Stderr, "fieldsim:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, cfg field.Config, record string) (err error) {
	if record != "" {
		out, err := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := out.Close(); err == nil {
				err = cerr
			}
		}()
		cfg.Record = out
	}
	f, err := field.Open(cfg)
	if err != nil {
		return err
	}
	for _, line := range f.Lines() {
		fmt.Println(line)
	}
	began := time.Now()
	if err := f.Run(ctx); err != nil {
		return err
	}
	fmt.Printf("stopped after %v\n", time.Since(began).Round(time.Second))
	return nil
}
