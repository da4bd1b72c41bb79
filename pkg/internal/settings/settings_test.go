package settings

import (
	"errors"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

type config struct {
	Name  string `yaml:"name"`
	Inner struct {
		Every time.Duration   `yaml:"every_time"`
		Size  strictyaml.Size `yaml:"size"`
		On    bool            `yaml:"on"`
		N     int             `yaml:"n"`
		F     float64         `yaml:"f"`
	} `yaml:"inner"`
	List []string `yaml:"list"`
}

func apply(t *testing.T, c *config, args ...string) error {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o, err := Register(flags, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if flags.Lookup("list") != nil {
		t.Error("a list has no flag")
	}
	return o.Apply(c)
}

func TestAFlagBeatsAVariableAndAVariableBeatsTheFile(t *testing.T) {
	t.Setenv("LANGBIANG_NAME", "env")
	t.Setenv("LANGBIANG_INNER_EVERY_TIME", "2d")
	t.Setenv("LANGBIANG_INNER_SIZE", "64MiB")
	c := config{Name: "file"}
	c.Inner.N = 7
	if err := apply(t, &c, "--name", "flag", "--inner.on", "--inner.f", "0.5"); err != nil {
		t.Fatal(err)
	}
	if c.Name != "flag" || c.Inner.Every != 48*time.Hour || c.Inner.Size != 64<<20 || !c.Inner.On || c.Inner.N != 7 || c.Inner.F != 0.5 {
		t.Errorf("%+v", c)
	}
}

func TestAValueThatDoesNotFitSaysWhereItCameFrom(t *testing.T) {
	t.Setenv("LANGBIANG_INNER_N", "many")
	var c config
	err := apply(t, &c, "--inner.size", "big", "--inner.on=maybe", "--inner.f", "x", "--inner.every-time", "soon")
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Errorf("want five faults at once, got: %v", err)
	}
}
