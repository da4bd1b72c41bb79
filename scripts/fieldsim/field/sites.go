package field

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// address is a unit on a line.
type address struct {
	line string
	unit byte
}

// sensor is a device that publishes.
type sensor struct {
	device string
	every  time.Duration
	// messages returns what it publishes: n counts its turns from 0.
	messages func(row, n int) []publication
}

type publication struct {
	topic, payload string
	retain         bool
}

// jitter returns a number in [-1, 1) that depends on its arguments only.
func jitter(seed uint64, salt string, row int) float64 {
	h := seed ^ 0x9E3779B97F4A7C15*uint64(row+1)
	for _, c := range []byte(salt) {
		h = (h ^ uint64(c)) * 0x100000001B3
	}
	h ^= h >> 30
	h *= 0xBF58476D1CE4E5B9
	h ^= h >> 27
	h *= 0x94D049BB133111EB
	h ^= h >> 31
	return float64(h>>11)/(1<<52) - 1
}

// weather is the map of a Renke multi-element station.
func (f *Field) weather(device string, id byte, a *air) *unit {
	reg := func(name string, addr int, scale float64, v func(int) float64) point {
		return point{name: name, area: holdings, addr: addr, scale: scale, value: v}
	}
	fixed := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	return &unit{line: LineTCP, device: device, id: id, points: []point{
		reg("version", 9, 1, fixed(0x0204)),
		reg("wind_speed", 500, 0.1, a.wind.at),
		reg("wind_force", 501, 1, func(r int) float64 { return math.Round(math.Pow(a.wind.at(r)/0.836, 2.0/3)) }),
		reg("wind_sector", 502, 1, func(r int) float64 { return float64(int(a.dir.at(r)/45+0.5) % 8) }),
		reg("wind_direction", 503, 1, a.dir.at),
		reg("relative_humidity", 504, 0.1, a.humidity),
		reg("air_temperature", 505, 0.1, a.temp.at),
		reg("noise_level", 506, 0.1, func(r int) float64 { return 52 + 8*jitter(f.seed, device, r) }),
		reg("pm2_5", 507, 1, a.pm25.at),
		reg("pm10", 508, 1, a.pm10.at),
		reg("air_pressure", 509, 0.1, func(r int) float64 { return a.pres.at(r) / 10 }),
		{name: "illuminance", area: holdings, addr: 510, wide: true, scale: 1, value: a.light},
		reg("illuminance_coarse", 512, 1, func(r int) float64 { return a.light(r) / 100 }),
		reg("rain_total", 513, 0.1, a.rain.sum),
		reg("address", 2000, 1, fixed(float64(id))),
		reg("baud", 2001, 1, fixed(1)),
	}}
}

// level is a level transmitter without a profile: holding register 4, in mm.
func (f *Field) level(device string, id byte, mean, swing float64) *unit {
	return &unit{line: LineTCP, device: device, id: id, points: []point{
		{name: "level", area: holdings, addr: 4, scale: 0.001, value: func(r int) float64 {
			return mean + swing*math.Sin(2*math.Pi*float64(r)/40) + 0.002*jitter(f.seed, device, r)
		}},
	}}
}

// loops is the map of an ADAM-6050 that counts the vehicles of four loops.
func (f *Field) loops(device string, id byte, lanes [4]lane) *unit {
	u := &unit{line: LineTCP, device: device, id: id}
	for i, l := range lanes {
		salt := fmt.Sprint(device, i)
		u.points = append(u.points,
			point{name: fmt.Sprintf("lane_%d_count", i+1), area: holdings, addr: 2 * i, wide: true, low: true, scale: 1, value: l.passed.sum},
			point{name: fmt.Sprintf("lane_%d_occupied", i+1), area: discretes, addr: i, scale: 1, value: func(r int) float64 {
				if 50*(1+jitter(f.seed, salt, r)) < l.occupancy.at(r) {
					return 1
				}
				return 0
			}})
	}
	return u
}

// lane is what a loop detector sees.
type lane struct{ passed, occupancy trace }

// newLane makes vehicles of speed (mph) and occupancy (%): a vehicle covers a
// loop for about seven metres of its way, and a row is five minutes.
func newLane(speed, occupancy trace, shift int) lane {
	l := lane{}
	for i := range occupancy {
		mps := 0.44704 * speed.at(i+shift)
		occ := occupancy.at(i + shift)
		l.occupancy = append(l.occupancy, occ)
		l.passed = append(l.passed, math.Round(occ/100*mps/7*300))
	}
	return l
}

// climate is the map of an XY-MD02 in a cabinet.
func (f *Field) climate(line, device string, id byte, room trace, a *air) *unit {
	return &unit{line: line, device: device, id: id, points: []point{
		{name: "air_temperature", area: inputs, addr: 1, scale: 0.1, value: func(r int) float64 { return celsius(room.at(r)) }},
		{name: "relative_humidity", area: inputs, addr: 2, scale: 0.1, value: func(r int) float64 { return 0.7 * a.humidity(r) }},
		{name: "address", area: holdings, addr: 0x0101, scale: 1, value: func(int) float64 { return float64(id) }},
		{name: "baud", area: holdings, addr: 0x0102, scale: 1, value: func(int) float64 { return 9600 }},
		{name: "temperature_correction", area: holdings, addr: 0x0103, scale: 0.1, value: func(int) float64 { return 0 }},
		{name: "humidity_correction", area: holdings, addr: 0x0104, scale: 0.1, value: func(int) float64 { return 0 }},
	}}
}

func celsius(fahrenheit float64) float64 { return (fahrenheit - 32) / 1.8 }

// meter is the map of a PZEM-016 on the cabinet's supply.
func (f *Field) meter(line, device string, id byte) *unit {
	volts := func(r int) float64 { return 229 + 4*jitter(f.seed, device+"v", r) }
	amps := func(r int) float64 { return 0.62 + 0.2*jitter(f.seed, device+"a", r) }
	watts := func(r int) float64 { return 0.93 * volts(r) * amps(r) }
	wide := func(name string, addr int, scale float64, v func(int) float64) point {
		return point{name: name, area: inputs, addr: addr, wide: true, low: true, scale: scale, value: v}
	}
	return &unit{line: line, device: device, id: id, points: []point{
		{name: "voltage", area: inputs, addr: 0, scale: 0.1, value: volts},
		wide("current", 1, 0.001, amps),
		wide("power", 3, 0.1, watts),
		wide("energy_total", 5, 1, func(r int) float64 { return 1200 + 132*float64(r) }),
		{name: "frequency", area: inputs, addr: 7, scale: 0.1, value: func(r int) float64 { return 50 + 0.1*jitter(f.seed, device+"f", r) }},
		{name: "power_factor", area: inputs, addr: 8, scale: 0.01, value: func(int) float64 { return 0.93 }},
		{name: "alarm", area: inputs, addr: 9, scale: 1, value: func(int) float64 { return 0 }},
	}}
}

// camera publishes what Frigate says of one camera.
func (f *Field) camera(device, name string, l lane) sensor {
	return sensor{device: device, every: 2 * time.Second, messages: func(row, n int) []publication {
		cars := int(l.occupancy.at(row) / 4)
		people := int(math.Abs(6 * jitter(f.seed, name, row)))
		out := []publication{
			{"frigate/" + name + "/person", fmt.Sprint(people), true},
			{"frigate/" + name + "/car", fmt.Sprint(cars), true},
			{"frigate/" + name + "/motorcycle", fmt.Sprint(2*cars + 1), true},
		}
		if n%5 == 0 {
			out = append(out, publication{"frigate/" + name + "/status/detect", "online", true})
		}
		return out
	}}
}

// frigate publishes what is common to the cameras.
func (f *Field) frigate(names ...string) sensor {
	return sensor{device: "frigate", every: 5 * time.Second, messages: func(row, n int) []publication {
		cams := make(map[string]any)
		for _, c := range names {
			fps := math.Round(10*(5+0.2*jitter(f.seed, c+"fps", row))) / 10
			cams[c] = map[string]any{"camera_fps": fps, "process_fps": fps, "skipped_fps": 0, "detection_fps": 1.2, "detection_enabled": true, "connection_quality": "excellent"}
		}
		stats := encode(map[string]any{"cameras": cams, "service": map[string]any{"version": "0.16.2"}})
		return []publication{{"frigate/available", "online", true}, {"frigate/stats", stats, false}}
	}}
}

// zigbee publishes a climate sensor behind Zigbee2MQTT: only what it has to say.
func (f *Field) zigbee(device, name string, room trace, a *air) sensor {
	return sensor{device: device, every: 3 * time.Second, messages: func(row, n int) []publication {
		v := map[string]any{
			"temperature": math.Round(100*celsius(room.at(row))) / 100,
			"humidity":    math.Round(100*0.8*a.humidity(row)) / 100,
			"linkquality": 120 + int(20*jitter(f.seed, name, row)),
		}
		if n%10 == 0 {
			v["battery"], v["voltage"] = 86, 2985
		}
		out := []publication{{"zigbee2mqtt/" + name, encode(v), false}}
		if n%20 == 0 {
			out = append(out, publication{"zigbee2mqtt/" + name + "/availability", `{"state":"online"}`, true})
		}
		return out
	}}
}

// airgradient publishes an AirGradient Open Air.
func (f *Field) airgradient(device, serial string, a *air) sensor {
	return sensor{device: device, every: 2 * time.Second, messages: func(row, n int) []publication {
		pm := a.pm25.at(row)
		return []publication{{"airgradient/readings/" + serial, encode(map[string]any{
			"wifi": -46 + int(5*jitter(f.seed, serial, row)), "serialno": serial, "rco2": 447 + int(30*jitter(f.seed, serial+"c", row)),
			"pm01": math.Round(0.7 * pm), "pm02": pm, "pm02Compensated": pm, "pm10": a.pm10.at(row), "pm003Count": 442,
			"atmp": a.temp.at(row) + 1.4, "atmpCompensated": a.temp.at(row),
			"rhum": math.Round(a.humidity(row)), "rhumCompensated": math.Round(a.humidity(row)),
			"tvocIndex": 100, "tvocRaw": 33051, "noxIndex": 1, "noxRaw": 16307,
			"boot": n, "bootCount": n, "ledMode": "pm", "firmware": "3.1.9", "model": "O-1PST",
		}), false}}
	}}
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}" // numbers, words and maps of them always encode
	}
	return string(b)
}

// build puts the three sites into the field. Lines of pseudo-terminals are taken
// in the order of the sites.
func (f *Field) build(ptys []string) error {
	airs := make([]*air, 3)
	for i, name := range []string{"air-aotizhongxin", "air-dongsi", "air-huairou"} {
		var err error
		if airs[i], err = loadAir(name); err != nil {
			return err
		}
	}
	col := make(map[string]trace)
	for _, name := range []string{"road-speed-t4013", "road-occupancy-t4013", "road-speed-6005", "road-occupancy-6005", "room-temperature"} {
		var err error
		if col[name], err = loadColumn(name); err != nil {
			return err
		}
	}
	room := col["room-temperature"]
	var lanes [4]lane
	for i := range lanes {
		road := []string{"t4013", "6005"}[i%2]
		lanes[i] = newLane(col["road-speed-"+road], col["road-occupancy-"+road], 12*(i/2))
	}

	// Lạc Dương (24848).
	f.add(f.weather("lac-duong-01/air-01", 1, airs[0]))
	f.add(f.level("lac-duong-01/tank", 7, 1.2, 0.3))
	f.add(doze(f.weather("lac-duong-01/air-02", 8, airs[0])))
	f.sensors = append(f.sensors, f.camera("lac-duong-01/gate-cam", "gate", lanes[0]), f.zigbee("lac-duong-01/store-room", "lac-duong/kho", room, airs[0]))
	// Lang Biang - Đà Lạt (24846).
	f.add(f.weather("lang-biang-01/air-01", 11, airs[1]))
	f.add(f.loops("lang-biang-01/junction", 12, lanes))
	f.add(doze(f.loops("lang-biang-01/bridge", 13, [4]lane{lanes[2], lanes[3], lanes[0], lanes[1]})))
	f.sensors = append(f.sensors, f.camera("lang-biang-01/square-cam", "square", lanes[1]), f.camera("lang-biang-01/market-cam", "market", lanes[2]),
		f.airgradient("lang-biang-01/market-air", "ecda3b24846a", airs[1]))
	// Đam Rông 4 (24853).
	f.add(f.weather("dam-rong-01/air-01", 21, airs[2]))
	f.add(f.level("dam-rong-01/stream", 22, 1.2, 0.9))
	f.add(doze(f.level("dam-rong-01/reservoir", 23, 6.1, 0.2)))
	f.sensors = append(f.sensors, f.zigbee("dam-rong-01/house", "dam-rong/nha-van-hoa", room, airs[2]),
		f.airgradient("dam-rong-01/school-air", "ecda3b24853a", airs[2]))

	f.sensors = append(f.sensors, f.frigate("gate", "square", "market"))
	for i, line := range ptys {
		edge := []string{"lac-duong-01", "lang-biang-01", "dam-rong-01"}[i%3]
		f.add(f.climate(line, edge+"/cabinet-air", 1, room, airs[i%3]))
		f.add(f.meter(line, edge+"/cabinet-power", 2))
	}
	return nil
}

// doze makes a unit one that sometimes does not answer.
func doze(u *unit) *unit {
	u.dozes = true
	return u
}

func (f *Field) add(u *unit) {
	if f.steady {
		u.dozes = false
	}
	f.units[address{u.line, u.id}] = u
	f.order = append(f.order, u)
}
