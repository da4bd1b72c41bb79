package profile

import (
	"time"

	"github.com/langbiang/langbiang/pkg/telemetry"
)

// Profile is what is known of one vendor's model: firmware-profiles/VENDOR/MODEL.yaml.
type Profile struct {
	ID       string               `yaml:"-"` // "vendor/model", from the file's place
	Vendor   string               `yaml:"vendor" doc:"the maker's name as people know it"`
	Model    string               `yaml:"model" doc:"the model's name as it stands on the label"`
	Title    telemetry.Text       `yaml:"title" doc:"what it is, in vi and en"`
	Category string               `yaml:"category" doc:"air, weather, rain, water_level, soil, slope, noise, light, traffic, camera, power, gateway, io or device"`
	Tested   string               `yaml:"tested" doc:"document, capture or device: what the profile was checked against"`
	Links    []string             `yaml:"links" doc:"the documents it comes from"`
	Caveats  []Caveat             `yaml:"caveats" doc:"what surprises, with its source"`
	Protocol string               `yaml:"protocol" doc:"modbus, mqtt or camera"`
	Modbus   ModbusDefaults       `yaml:"modbus" doc:"how the model is found on its line, and its limits"`
	MQTT     MQTTDefaults         `yaml:"mqtt" doc:"availability and time of an MQTT device"`
	Camera   CameraDefaults       `yaml:"camera" doc:"where a camera is found"`
	With     map[string]Parameter `yaml:"with" doc:"parameters that a device of this profile may set"`
	Match    []Match              `yaml:"match" doc:"what must hold for a device to be this model; one with version: tells the firmware"`
	Points   []Point              `yaml:"points" doc:"what it measures; shared by all revisions"`
	Firmware []Revision           `yaml:"firmware" doc:"revisions by firmware; a device that pins none gets the one that fits, or the first"`

	// Own are the quantities that the catalogue lacks, see [Profile.Catalogue].
	Own map[string]OwnQuantity `yaml:"quantities" doc:"quantities that the catalogue lacks"`
}

// Caveat is a surprise that a technician should know, and who says so.
type Caveat struct {
	Text   telemetry.Text `yaml:"text" doc:"what surprises"`
	Source string         `yaml:"source" doc:"who says so"`
}

// ModbusDefaults are the line settings and limits of a model.
type ModbusDefaults struct {
	Unit         int           `yaml:"unit" doc:"the unit id it leaves the factory with"`
	Baud         int           `yaml:"baud" doc:"factory setting"`
	Parity       string        `yaml:"parity" doc:"none, even or odd"`
	StopBits     int           `yaml:"stop_bits" doc:"1 or 2"`
	MaxRegisters int           `yaml:"max_registers" doc:"most registers that one request may ask for; 125 when not said"`
	MaxBits      int           `yaml:"max_bits" doc:"most coils or discrete inputs in one request; 2000 when not said"`
	MaxHole      *int          `yaml:"max_hole" doc:"unneeded registers that a request may bridge; 16 when not said, 0 for devices that refuse holes"`
	Pause        time.Duration `yaml:"pause" doc:"silence the device needs between two requests"`
	WarmUp       time.Duration `yaml:"warm_up" doc:"time after power-up in which its values mean nothing"`
	Order        Order         `yaml:"order" doc:"order of the bytes of values wider than a register: abcd, cdab, badc or dcba"`
}

// MQTTDefaults say when an MQTT device counts as up, and whose time counts.
type MQTTDefaults struct {
	Availability *Availability `yaml:"availability" doc:"the topic that says online or offline"`
	ExpectEvery  time.Duration `yaml:"expect_every" doc:"longest silence before the device counts as down"`
	Time         *DeviceTime   `yaml:"time" doc:"use the device's own time instead of the time of arrival"`
	Partial      bool          `yaml:"partial" doc:"payloads hold only what changed: a field that is not in them says nothing; otherwise it is a bad reading (missing)" default:"false"`
}

// CameraDefaults say where a camera is; one of both is enough.
type CameraDefaults struct {
	RTSP     string `yaml:"rtsp" doc:"address of the stream, rtsp:// or rtsps://, with {parameter} places and without a user"`
	Snapshot string `yaml:"snapshot" doc:"address of a picture, http:// or https://, with {parameter} places and without a user"`
}

// Availability is a topic on which a device, or its last will, says how it is.
type Availability struct {
	Topic   string   `yaml:"topic" doc:"topic, with {parameter} places"`
	Path    string   `yaml:"path" doc:"path in a JSON payload; empty: the payload itself"`
	Online  []string `yaml:"online" doc:"words that mean online"`
	Offline []string `yaml:"offline" doc:"words that mean offline"`
}

// DeviceTime says where a payload carries its time.
type DeviceTime struct {
	Path   string        `yaml:"path" doc:"path of the time in the payload"`
	Format string        `yaml:"format" doc:"rfc3339, unix, unix_ms"`
	MaxLag time.Duration `yaml:"max_lag" doc:"how far behind arrival it may be"`
}

// Parameter is one thing that a device may set under `with:`.
type Parameter struct {
	Type    string         `yaml:"type" doc:"string, int, float or bool; string when not said"`
	Default string         `yaml:"default,text" doc:"taken when the device says nothing; may name another parameter: {camera}. Without one the device must say it"`
	Example string         `yaml:"example,text" doc:"a value as a technician would write it"`
	Min     *float64       `yaml:"min" doc:"least value of an int or float"`
	Max     *float64       `yaml:"max" doc:"greatest value of an int or float"`
	Title   telemetry.Text `yaml:"title" doc:"what it is"`
}

// Revision is one firmware of a model. Its points replace those of the profile
// that have the same id, and add to them; Remove takes points away.
type Revision struct {
	ID     string         `yaml:"id,text" doc:"name of the revision, as a device pins it"`
	Title  telemetry.Text `yaml:"title" doc:"what sets it apart"`
	Range  string         `yaml:"range" doc:"firmware versions it stands for, for example >=1.0.0 <1.0.4; empty when versions cannot be told"`
	Match  []Match        `yaml:"match" doc:"what must hold besides for the agent to take this revision"`
	Source string         `yaml:"source" doc:"where that is written"`
	Like   string         `yaml:"like,text" doc:"id of the revision that this one departs from; the profile's own points when not said"`
	Points []Point        `yaml:"points" doc:"points that take the place of those with the same id, and further ones"`
	Remove []string       `yaml:"remove" doc:"ids of points that it does not have"`
}

// Area is one of the four Modbus tables.
type Area uint8

// The areas. AreaNone marks a point that is not Modbus.
const (
	AreaNone Area = iota
	AreaCoil
	AreaDiscrete
	AreaHolding
	AreaInput
)

// Order is the order of bytes of a value wider than one register: abcd is big
// endian, cdab has the low word first, badc swaps the bytes of each word, dcba
// is little endian.
type Order string

// The orders. On a string, or a value of one register, a point may say badc:
// the bytes of each register are swapped.
const (
	OrderABCD Order = "abcd"
	OrderCDAB Order = "cdab"
	OrderBADC Order = "badc"
	OrderDCBA Order = "dcba"
)

// The kinds of a point.
const (
	KindNumber = "number"
	KindText   = "text"
)

// The protocols of a profile.
const (
	ProtocolModbus = "modbus"
	ProtocolMQTT   = "mqtt"
	ProtocolCamera = "camera"
)

// What a camera point can be. Times are in seconds, rates per second, sizes in
// bytes; dark and frozen are 0 or 1.
const (
	CameraAnswerTime  = "answer_time"  // until it answered the first request
	CameraCodec       = "codec"        // text: H264
	CameraFrameRate   = "frame_rate"   // frames of a short sample
	CameraBitRate     = "bit_rate"     // bits of a short sample
	CameraPictureSize = "picture_size" // bytes of the snapshot
	CameraPictureAge  = "picture_age"  // of the snapshot, as the camera says
	CameraDark        = "dark"         // there is nothing to see in the snapshot
	CameraFrozen      = "frozen"       // the snapshots have not changed for a while
)

// Type is how the raw bits of a Modbus point are read.
type Type string

// The raw types. A bool comes from a coil, a discrete input, or one bit of a
// register (bit:). BCD16 and BCD32 are packed decimal digits.
const (
	TypeBool    Type = "bool"
	TypeInt16   Type = "int16"
	TypeUint16  Type = "uint16"
	TypeInt32   Type = "int32"
	TypeUint32  Type = "uint32"
	TypeInt64   Type = "int64"
	TypeUint64  Type = "uint64"
	TypeFloat32 Type = "float32"
	TypeFloat64 Type = "float64"
	TypeBCD16   Type = "bcd16"
	TypeBCD32   Type = "bcd32"
	TypeString  Type = "string"
)

// Point is one measurable of a device, in a profile or inline in edge.yaml.
// Modbus points name exactly one of coil, discrete, holding or input; MQTT
// points name a topic. The value is (raw + Before) * Scale + Offset, in Unit,
// then converted to the quantity's canonical unit.
type Point struct {
	ID       string `yaml:"id" doc:"name of the point, unique in its device"`
	Quantity string `yaml:"quantity" doc:"what it measures: an id of the catalogue"`
	Unit     string `yaml:"unit" doc:"unit the device gives; converted to the canonical one; the canonical one when not said"`
	Kind     string `yaml:"kind" doc:"number or text; number when not said"`

	Coil     *int   `yaml:"coil" doc:"PDU address of a coil, from 0"`
	Discrete *int   `yaml:"discrete" doc:"PDU address of a discrete input, from 0"`
	Holding  *int   `yaml:"holding" doc:"PDU address of a holding register, from 0"`
	Input    *int   `yaml:"input" doc:"PDU address of an input register, from 0"`
	Doc      string `yaml:"doc,text" doc:"the number the maker's document gives it, 40501 for example"`
	Type     Type   `yaml:"type" doc:"bool, int16, uint16, int32, uint32, int64, uint64, float32, float64, bcd16, bcd32 or string; uint16 (bool for bits) when not said"`
	Order    Order  `yaml:"order" doc:"abcd, cdab, badc or dcba; abcd when neither point nor profile says"`
	Bit      *int   `yaml:"bit" doc:"bit of a register, 0 is the lowest"`
	Length   int    `yaml:"length" doc:"registers of a string"`

	Topic string `yaml:"topic" doc:"MQTT topic filter, with {parameter} places"`
	Path  string `yaml:"path" doc:"where in a JSON payload the value stands; empty: the payload itself"`

	Camera string `yaml:"camera" doc:"what of a camera: answer_time (s), codec (text), frame_rate (/s), bit_rate (bit/s), picture_size (By), picture_age (s), dark or frozen (0 or 1)"`

	Before    float64            `yaml:"before" doc:"added to the raw value before scaling"`
	Scale     *float64           `yaml:"scale" doc:"factor; 1 when not said"`
	Offset    float64            `yaml:"offset" doc:"added after scaling"`
	Enum      map[string]float64 `yaml:"enum" doc:"words and the numbers they stand for"`
	Sentinels []float64          `yaml:"sentinels" doc:"raw values that mean: not fitted"`
	Valid     *Range             `yaml:"valid" doc:"range outside which the reading is bad, in unit"`
	Decimals  *int               `yaml:"decimals" doc:"digits after the point that the value is rounded to, in unit"`
	Interval  time.Duration      `yaml:"interval" doc:"hint: how often it is worth reading"`
	Deadband  float64            `yaml:"deadband" doc:"hint: change, in unit, below which there is nothing to report; that of the quantity when not said"`

	ValidWhen  *Match      `yaml:"valid_when" doc:"condition without which the reading is bad (invalid); for a topic a path in the same payload"`
	PowerOfTen *PowerOfTen `yaml:"power_of_ten" doc:"where the device says by which power of ten its value is to be multiplied"`
	UnitCode   *UnitCode   `yaml:"unit_code" doc:"where the device says in which unit its value is; converted into unit"`
	Counter    *Counter    `yaml:"counter" doc:"the raw value is a counter"`
	SideEffect bool        `yaml:"side_effect" doc:"reading it changes the device: it is read after all others, alone, in the order of the points, and never asked for twice" default:"false"`
	Writable   *Writable   `yaml:"writable" doc:"the point may be written, in this range"`
	Urgent     bool        `yaml:"urgent" doc:"a change of it is sent and committed at once, whatever the periods: a switch, not a measured value" default:"false"`
}

// Writable bounds what may be written to a point. Nothing is written but on a
// person's command.
type Writable struct {
	Min *float64 `yaml:"min" doc:"least, in unit"`
	Max *float64 `yaml:"max" doc:"greatest, in unit"`
	// Multiple asks for functions 15 and 16 where 5 and 6 would do.
	Multiple bool `yaml:"multiple" doc:"the device takes functions 15 and 16 only, for a single coil or register too" default:"false"`
}

// Range is a closed interval; nil is unbounded.
type Range struct {
	Min *float64 `yaml:"min" doc:"least"`
	Max *float64 `yaml:"max" doc:"greatest"`
}

// Area returns which Modbus table the point is read from, and its PDU address.
// It is AreaNone for a point that is not Modbus.
func (p *Point) Area() (Area, int) {
	switch {
	case p.Coil != nil:
		return AreaCoil, *p.Coil
	case p.Discrete != nil:
		return AreaDiscrete, *p.Discrete
	case p.Holding != nil:
		return AreaHolding, *p.Holding
	case p.Input != nil:
		return AreaInput, *p.Input
	}
	return AreaNone, 0
}

// Width returns how many registers (or bits, in the two bit areas) the point
// occupies from its address on.
func (p *Point) Width() int {
	if a, _ := p.Area(); a == AreaCoil || a == AreaDiscrete {
		return 1
	}
	switch p.Type {
	case TypeInt32, TypeUint32, TypeFloat32, TypeBCD32:
		return 2
	case TypeInt64, TypeUint64, TypeFloat64:
		return 4
	case TypeString:
		return p.Length
	}
	return 1
}
