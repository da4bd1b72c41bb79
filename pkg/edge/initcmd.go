package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// initCommand needs no configuration: it makes one.
func initCommand() settings.Command[*Plan] {
	var path string
	return settings.Command[*Plan]{
		Use: "init", Short: "ask a few questions and write a first edge.yaml with comments",
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&path, "config", "edge.yaml", "file to write; one that is there is left alone")
		},
		Free: func(_ context.Context, c settings.Call) error {
			if _, err := os.Stat(path); err == nil {
				return fmt.Errorf("%s is there already and is left alone; give --config another name, or change it and run: langbiang-edge check --config %s", path, path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			q := interview{in: bufio.NewReader(c.Stdin), out: c.Stdout}
			text := firstConfig(&q)
			if q.err != nil {
				return fmt.Errorf("nothing was written: %w", q.err)
			}
			if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
				return err
			}
			if _, err := Load(path, nil); err != nil {
				return fmt.Errorf("written, and to be mended:\n%w", err)
			}
			_, err := fmt.Fprintf(c.Stdout, "\n%s is written. Next:\n  langbiang-edge scan --config %s CONNECTION --add   # find the devices; of cameras with --hosts 10.0.0.0/24\n  langbiang-edge read --config %s                    # see their values\n  langbiang-edge doctor --config %s                  # is everything in place?\n  langbiang-edge run --config %s\n", path, path, path, path, path)
			return err
		},
	}
}

// interview asks a person. After the first error it asks nothing more.
type interview struct {
	in  *bufio.Reader
	out io.Writer
	err error
}

// maxAsked is how often a question is asked that gets no good answer.
const maxAsked = 5

// ask returns a good answer; an empty one means preset.
func (q *interview) ask(text, preset string, good func(string) string) string {
	for range maxAsked {
		if q.err != nil {
			return preset
		}
		if preset != "" {
			_, q.err = fmt.Fprintf(q.out, "%s [%s]: ", text, preset)
		} else {
			_, q.err = fmt.Fprintf(q.out, "%s: ", text)
		}
		line, err := q.in.ReadString('\n')
		if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
			q.err = errors.Join(q.err, fmt.Errorf("no answer to %q", text))
			return preset
		}
		answer := strings.TrimSpace(line)
		if answer == "" {
			answer = preset
		}
		wrong := good(answer)
		if wrong == "" {
			return answer
		}
		_, err = fmt.Fprintf(q.out, "  %s\n", wrong)
		q.err = errors.Join(q.err, err)
	}
	q.err = errors.Join(q.err, fmt.Errorf("no good answer to %q", text))
	return preset
}

func oneOf(words ...string) func(string) string {
	return func(s string) string {
		for _, w := range words {
			if s == w {
				return ""
			}
		}
		return "one of " + strings.Join(words, ", ")
	}
}

func anything(string) string { return "" }

// firstConfig asks what cannot be guessed and returns the file.
func firstConfig(q *interview) string {
	id := q.ask("Name of this gateway, unique in the fleet, for example lac-duong-01", "", func(s string) string {
		if idPattern.MatchString(s) {
			return ""
		}
		return "use a-z, 0-9 and -, at most 63, a letter or digit at both ends"
	})
	site := q.ask("Code of the site it stands at (the hub may know better)", "", anything)
	hub := q.ask("Address of the hub", "mqtt://127.0.0.1:1883", func(s string) string {
		if strings.HasPrefix(s, "mqtt://") || strings.HasPrefix(s, "mqtts://") {
			return ""
		}
		return "write mqtt://HOST:1883 or mqtts://HOST:8883"
	})
	link := q.ask("Is the link paid by volume (4G, satellite)? yes or no", "no", oneOf("yes", "no"))
	var b strings.Builder
	fmt.Fprintf(&b, "# The agent of %s. docs/configuration.md has every setting; langbiang-edge check\n# says what is wrong with this file.\n\nedge: {id: %s, site: %s}\ndata_dir: ./data            # the log of readings; keep it on a good card\n", id, id, strconv.Quote(site))
	fmt.Fprintf(&b, "hub:\n  url: %s\n", strconv.Quote(hub))
	if link == "yes" {
		b.WriteString("  link: metered             # readings are bundled for a minute; urgent ones go at once\n")
	}
	b.WriteString("buffer: {max_size: 1GiB, max_age: 30d, keep: 7d, commit_every: 5s}\n\nconnections:\n")
	for {
		kind := q.ask("Add a connection: serial, tcp, mqtt, camera, or done", "done", oneOf("serial", "tcp", "mqtt", "camera", "done"))
		if kind == "done" || q.err != nil {
			break
		}
		connection(q, &b, kind)
	}
	b.WriteString("\n# What is read. langbiang-edge scan CONNECTION --add finds devices and writes them here.\ndevices: []\n")
	return strings.Replace(b.String(), "connections:\n\n", "connections: []             # langbiang-edge init knows how they look\n\n", 1)
}

func connection(q *interview, b *strings.Builder, kind string) {
	name := q.ask("  Name of the connection", map[string]string{"serial": "bus-1", "tcp": "cabinet", "mqtt": "local", "camera": "cams"}[kind], func(s string) string {
		switch {
		case !namePattern.MatchString(s):
			return "use letters, digits, _ . and -"
		case strings.Contains(b.String(), "{id: "+s+","):
			return "there is one of this name already"
		}
		return ""
	})
	switch kind {
	case "serial":
		preset := ""
		if ports, err := filepath.Glob("/dev/serial/by-id/*"); err == nil && len(ports) > 0 {
			preset = ports[0]
		}
		port := q.ask("  Port; one of /dev/serial/by-id/ keeps its name over a reboot", preset, func(s string) string {
			if strings.HasPrefix(s, "/") {
				return ""
			}
			return "write a path such as /dev/serial/by-id/usb-..."
		})
		baud := q.ask("  Baud, as set in the devices", "9600", func(s string) string {
			if n, err := strconv.Atoi(s); err == nil && n >= 300 && n <= 1_000_000 {
				return ""
			}
			return "a number, mostly 4800, 9600, 19200 or 115200"
		})
		fmt.Fprintf(b, "  - {id: %s, modbus: {transport: rtu, port: %s, baud: %s, parity: none, stop_bits: 1}}\n", name, strconv.Quote(port), baud)
	case "tcp":
		address := q.ask("  Address of the device or gateway, HOST:502", "", func(s string) string {
			if i := strings.LastIndexByte(s, ':'); i > 0 && i < len(s)-1 {
				return ""
			}
			return "write HOST:PORT, for example 192.168.1.20:502"
		})
		fmt.Fprintf(b, "  - {id: %s, modbus: {transport: tcp, address: %s, timeout: 1s}}\n", name, strconv.Quote(address))
	case "mqtt":
		url := q.ask("  Address of the broker", "tcp://127.0.0.1:1883", func(s string) string {
			if strings.Contains(s, "://") {
				return ""
			}
			return "write tcp://HOST:1883 or ssl://HOST:8883"
		})
		fmt.Fprintf(b, "  - {id: %s, mqtt: {url: %s}}\n", name, strconv.Quote(url))
	case "camera":
		user := q.ask("  User at the cameras, one that may look; empty when they ask for none", "", anything)
		if user == "" {
			fmt.Fprintf(b, "  - {id: %s, camera: {}}\n", name)
			return
		}
		file := q.ask("  File whose first line is the password", "/etc/langbiang/cameras.password", anything)
		fmt.Fprintf(b, "  - {id: %s, camera: {user: %s, password_file: %s}}\n", name, strconv.Quote(user), strconv.Quote(file))
	}
}
