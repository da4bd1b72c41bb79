// Package settings lets every scalar of a configuration struct be overridden by
// a flag or by an environment variable, in that order of strength over the file.
//
// The names follow from the `yaml` tags: hub.send_every in the file is the flag
// --hub.send-every and the variable LANGBIANG_HUB_SEND_EVERY. Lists and maps (the
// devices, the connections) are the file's alone: they have positions to report
// and no sensible form on a command line.
package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/langbiang/langbiang/pkg/internal/strictyaml"
)

// EnvPrefix begins the name of every environment variable.
const EnvPrefix = "LANGBIANG"

// Overrides is a set of flags and variables bound to a configuration struct.
// It is not safe for concurrent use.
type Overrides struct {
	v    *viper.Viper
	keys []string
}

// Register adds a flag for each scalar field of the struct that cfg points to,
// with the field's doc tag as its help, and binds the environment variable.
func Register(flags *pflag.FlagSet, cfg any) (*Overrides, error) {
	o := &Overrides{v: viper.New()}
	o.v.SetEnvPrefix(EnvPrefix)
	o.v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	var errs []error
	walk(reflect.ValueOf(cfg).Elem(), "", "", func(key, doc string, f reflect.Value) {
		name := strings.ReplaceAll(key, "_", "-")
		flags.String(name, "", doc)
		if f.Kind() == reflect.Bool {
			flags.Lookup(name).NoOptDefVal = "true"
		}
		errs = append(errs, o.v.BindPFlag(key, flags.Lookup(name)), o.v.BindEnv(key))
		o.keys = append(o.keys, key)
	})
	return o, errors.Join(errs...)
}

// Hide keeps the flags of the settings out of a command's help; they are taken all
// the same.
func (o *Overrides) Hide(flags *pflag.FlagSet) {
	for _, key := range o.keys {
		flags.Lookup(strings.ReplaceAll(key, "_", "-")).Hidden = true
	}
}

// Apply sets the fields of cfg, a pointer to the struct that was registered,
// that a flag or a variable names. A value that does not fit is an error which
// says where it came from.
func (o *Overrides) Apply(cfg any) error {
	var errs []error
	walk(reflect.ValueOf(cfg).Elem(), "", "", func(key, _ string, f reflect.Value) {
		if !o.v.IsSet(key) {
			return
		}
		text := o.v.GetString(key)
		if text == "" {
			return
		}
		if err := set(f, text); err != nil {
			errs = append(errs, fmt.Errorf("--%s or %s_%s: %w", strings.ReplaceAll(key, "_", "-"), EnvPrefix,
				strings.ToUpper(strings.ReplaceAll(key, ".", "_")), err))
		}
	})
	return errors.Join(errs...)
}

// Set reports whether a flag or a variable gives the key a value.
func (o *Overrides) Set(key string) bool { return o.v.IsSet(key) && o.v.GetString(key) != "" }

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func walk(v reflect.Value, prefix, doc string, visit func(key, doc string, f reflect.Value)) {
	t := v.Type()
	switch {
	case t == reflect.TypeFor[time.Duration](), t == reflect.TypeFor[strictyaml.Size](), reflect.PointerTo(t).Implements(textUnmarshaler):
		visit(prefix, doc, v)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "" || name == "-" {
				continue
			}
			key := name
			if prefix != "" {
				key = prefix + "." + name
			}
			walk(v.Field(i), key, f.Tag.Get("doc"), visit)
		}
	case t.Kind() == reflect.Bool, t.Kind() == reflect.String, v.CanInt(), v.CanFloat():
		visit(prefix, doc, v)
	}
}

func set(f reflect.Value, text string) error {
	switch f.Type() {
	case reflect.TypeFor[time.Duration]():
		d, err := strictyaml.ParseDuration(text)
		if err != nil {
			return err
		}
		f.SetInt(int64(d))
		return nil
	case reflect.TypeFor[strictyaml.Size]():
		n, err := strictyaml.ParseSize(text)
		if err != nil {
			return err
		}
		f.SetInt(int64(n))
		return nil
	}
	if u, ok := f.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch {
	case f.Kind() == reflect.String:
		f.SetString(text)
	case f.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		f.SetBool(b)
	case f.CanInt():
		n, err := strconv.ParseInt(text, 10, f.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		f.SetInt(n)
	case f.CanFloat():
		x, err := strconv.ParseFloat(text, f.Type().Bits())
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		f.SetFloat(x)
	}
	return nil
}
