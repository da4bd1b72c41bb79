package profile

import (
	"fmt"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Place is where a raw value stands that is not itself a point: a register that
// tells the model, a status word, a unit code. On MQTT it is a path in a payload.
type Place struct {
	Coil     *int   `yaml:"coil" doc:"PDU address of a coil, from 0"`
	Discrete *int   `yaml:"discrete" doc:"PDU address of a discrete input, from 0"`
	Holding  *int   `yaml:"holding" doc:"PDU address of a holding register, from 0"`
	Input    *int   `yaml:"input" doc:"PDU address of an input register, from 0"`
	Doc      string `yaml:"doc,text" doc:"the number the maker's document gives it"`
	Type     Type   `yaml:"type" doc:"as of a point; uint16 (bool for bits) when not said"`
	Order    Order  `yaml:"order" doc:"as of a point"`
	Bit      *int   `yaml:"bit" doc:"bit of a register, 0 is the lowest"`
	Length   int    `yaml:"length" doc:"registers of a string"`
	Topic    string `yaml:"topic" doc:"MQTT topic, in match only"`
	Path     string `yaml:"path" doc:"path in a JSON payload"`
}

// Raw is what stands at a [Place]: a number, or a text, or the reason why it
// could not be read. A register that the device refuses has ReasonException.
type Raw struct {
	Number  float64
	Text    string // of strings and of payloads
	List    bool   // it is an array: Text holds its elements, a listSeparator between them
	Quality telemetry.Quality
}

// listSeparator stands in no element.
const listSeparator = "\x00"

// Point returns the place as a point that can be planned and decoded like one.
// It has no quantity.
func (p *Place) Point(id string) Point {
	pt := Point{
		ID: id, Coil: p.Coil, Discrete: p.Discrete, Holding: p.Holding, Input: p.Input,
		Type: p.Type, Order: p.Order, Bit: p.Bit, Length: p.Length, Topic: p.Topic, Path: p.Path, Doc: p.Doc,
	}
	if p.Topic != "" {
		pt.Kind = KindText
	}
	return pt
}

// Same reports whether two places are one, whatever they are called in a
// document.
func (p *Place) Same(o *Place) bool {
	equal := func(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }
	return equal(p.Coil, o.Coil) && equal(p.Discrete, o.Discrete) && equal(p.Holding, o.Holding) && equal(p.Input, o.Input) &&
		equal(p.Bit, o.Bit) && p.Type == o.Type && p.Order == o.Order && p.Length == o.Length && p.Topic == o.Topic && p.Path == o.Path
}

// String names the place for a log: "input 0", "path firmware of a/b".
func (p *Place) String() string {
	pt := p.Point("")
	switch area, addr := pt.Area(); {
	case area != AreaNone:
		return fmt.Sprintf("%s %d", area, addr)
	case p.Topic != "" && p.Path == "":
		return p.Topic
	case p.Topic != "":
		return fmt.Sprintf("%s of %s", p.Path, p.Topic)
	}
	return p.Path
}

// String returns the key of a point that names the area.
func (a Area) String() string {
	switch a {
	case AreaCoil:
		return "coil"
	case AreaDiscrete:
		return "discrete"
	case AreaHolding:
		return "holding"
	case AreaInput:
		return "input"
	}
	return "none"
}

// fault is where and how a place is wrong, for the caller to put its own key in
// front.
func (p *Place) faults(what string, anywhere bool) []PointError {
	pt := p.Point("x")
	pt.Kind = ""
	c := &checker{pt: &pt}
	switch {
	case pt.Protocol() != "":
		c.source()
		if pt.Protocol() == ProtocolMQTT && !anywhere {
			c.fail("topic", "leave it away", "%s stands in the same payload as the value", what)
		}
	case p.Path == "":
		c.fail("", "name one of coil, discrete, holding, input (Modbus) or path (MQTT)", "says nowhere to read it from")
	case anywhere:
		c.fail("topic", "write the topic beside the path", "must be set")
	default:
		c.mqttOnly()
	}
	return c.errs
}
