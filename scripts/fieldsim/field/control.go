package field

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Control returns the HTTP control. It has no authentication: serve it on a
// loopback address only.
//
//	POST /set?unit=1&register=507&value=160[&area=holding][&line=tcp]
//	POST /release?unit=1[&line=tcp]
//	POST /unit?unit=7&dead=true[&line=tcp]
//	POST /device?device=lac-duong-01/gate-cam&muted=true
//	POST /publish?topic=a/b[&retain=true][&qos=1]    the body is the payload
//	POST /broker?up=false
//	GET  /state                                      rows played, units, devices
//
// The answer is 204, or 400 with a sentence.
func (f *Field) Control() http.Handler {
	mux := http.NewServeMux()
	post := func(path string, do func(q query, body io.Reader) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := do(query{r}, http.MaxBytesReader(w, r.Body, 1<<20)); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	post("/set", func(q query, _ io.Reader) error {
		unit, err := q.number("unit", 255)
		if err != nil {
			return err
		}
		register, err := q.number("register", 65535)
		if err != nil {
			return err
		}
		value, err := q.number("value", 65535)
		if err != nil {
			return err
		}
		return f.Set(q.or("line", LineTCP), byte(unit), q.or("area", "holding"), register, uint16(value))
	})
	post("/release", func(q query, _ io.Reader) error {
		unit, err := q.number("unit", 255)
		if err != nil {
			return err
		}
		return f.Release(q.or("line", LineTCP), byte(unit))
	})
	post("/unit", func(q query, _ io.Reader) error {
		unit, err := q.number("unit", 255)
		if err != nil {
			return err
		}
		dead, err := q.truth("dead")
		if err != nil {
			return err
		}
		return f.Kill(q.or("line", LineTCP), byte(unit), dead)
	})
	post("/device", func(q query, _ io.Reader) error {
		muted, err := q.truth("muted")
		if err != nil {
			return err
		}
		return f.Mute(q.or("device", ""), muted)
	})
	post("/publish", func(q query, body io.Reader) error {
		payload, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		qos := 0
		if q.or("qos", "") != "" {
			if qos, err = q.number("qos", 1); err != nil {
				return err
			}
		}
		return f.Publish(q.or("topic", ""), string(payload), q.r.URL.Query().Get("retain") == "true", byte(qos))
	})
	post("/broker", func(q query, _ io.Reader) error {
		up, err := q.truth("up")
		if err != nil {
			return err
		}
		return f.Broker(up)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(f.state())
	})
	return mux
}

// State is the answer of GET /state.
type State struct {
	Row     int         `json:"row"`
	Seconds float64     `json:"seconds"` // since the first client came
	Units   []UnitState `json:"units"`
	Devices []string    `json:"devices"` // that publish
}

// UnitState is a Modbus unit in a [State].
type UnitState struct {
	Line    string `json:"line"`
	Unit    int    `json:"unit"`
	Device  string `json:"device"`
	Answers bool   `json:"answers"`
}

func (f *Field) state() State {
	s := State{Row: f.row(), Seconds: f.since().Seconds()}
	for _, u := range f.order {
		s.Units = append(s.Units, UnitState{u.line, int(u.id), u.device, u.answers(f.since())})
	}
	for _, d := range f.sensors {
		s.Devices = append(s.Devices, d.device)
	}
	return s
}

// query reads the parameters of a request.
type query struct{ r *http.Request }

func (q query) or(name, def string) string {
	if v := q.r.URL.Query().Get(name); v != "" {
		return v
	}
	return def
}

func (q query) number(name string, most int) (int, error) {
	n, err := strconv.ParseUint(q.r.URL.Query().Get(name), 0, 32)
	if err != nil || n > uint64(most) {
		return 0, fmt.Errorf("%s=%q: write a number from 0 to %d", name, q.r.URL.Query().Get(name), most)
	}
	return int(n), nil
}

func (q query) truth(name string) (bool, error) {
	v, err := strconv.ParseBool(q.r.URL.Query().Get(name))
	if err != nil {
		return false, fmt.Errorf("%s=%q: write true or false", name, q.r.URL.Query().Get(name))
	}
	return v, nil
}
