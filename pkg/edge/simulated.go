package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/langbiang/langbiang/pkg/driver/camera"
	"github.com/langbiang/langbiang/pkg/driver/modbus"
	"github.com/langbiang/langbiang/pkg/driver/mqtt"
	"github.com/langbiang/langbiang/pkg/internal/settings"
)

// simulatedEnd follows the data folder and the id of an agent that reads simulated
// devices, so that nothing of it is taken for real.
const simulatedEnd = "-simulated"

// simulationName is the file in that folder by which commands find the simulation.
const simulationName = "simulation.json"

// noHub is what an agent of simulated devices says of its hub.
const noHub = "none: simulated readings are sent nowhere, unless --hub.url names a hub to try it with"

// simulation says where the simulated outside of a configuration is. It stands in a
// file that is locked for as long as somebody serves it.
type simulation struct {
	// Connections has what stands in the place of each connection's address, by its
	// id: host and port, or the path of a serial port.
	Connections map[string]string `json:"connections"`
}

func simulationFolder(dataDir string) string { return dataDir + simulatedEnd }

var errNoSimulation = errors.New("nobody simulates this configuration: start langbiang-edge simulate in another terminal, and leave it running")

// openSimulation reads the file of a simulation that is being served.
func openSimulation(dataDir string) (*simulation, error) {
	f, err := os.Open(filepath.Join(simulationFolder(dataDir), simulationName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoSimulation
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // lets go of the lock, too
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
		return nil, errNoSimulation // it was left behind
	}
	var s simulation
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return &s, nil
}

// write puts the file in place and returns it open and locked; it is no longer
// served once that is closed.
func (s *simulation) write(dataDir string) (*os.File, error) {
	folder := simulationFolder(dataDir)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, simulationName)
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = json.NewEncoder(f).Encode(s)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// loadSimulated is Load with every connection led to the simulation that is being
// served, and nothing left that leads anywhere else.
func loadSimulated(path string, o *settings.Overrides) (*Plan, error) {
	plan, err := Load(path, func(c *Config) error { return o.Apply(c) })
	if err != nil {
		return nil, err
	}
	s, err := openSimulation(plan.Config.DataDir)
	if err != nil {
		return nil, err
	}
	if err := plan.redirect(s); err != nil {
		return nil, err
	}
	if !o.Set("hub.url") {
		plan.Config.Hub.URL = ""
	}
	if !o.Set("edge.id") {
		id := plan.Config.Edge.ID
		plan.Config.Edge.ID = id[:min(len(id), 63-len(simulatedEnd))] + simulatedEnd
	}
	plan.reload = func() (*Plan, error) { return loadSimulated(path, o) }
	plan.with = nil // no hub decides what is simulated
	return plan, nil
}

// redirect leads every connection and camera to the simulation.
func (p *Plan) redirect(s *simulation) error {
	for _, c := range p.Connections {
		at := s.Connections[c.ID]
		if at == "" {
			return fmt.Errorf("connection %s is not simulated yet; what does langbiang-edge simulate say of it?", c.ID)
		}
		switch cfg := c.Source.(type) {
		case *modbus.Config:
			if cfg.Port != "" {
				cfg.Port = at
			} else {
				cfg.Address = at
			}
		case *mqtt.Config:
			*cfg = mqtt.Config{URL: "tcp://" + at, ClientID: cfg.ClientID, QoS: cfg.QoS, Keepalive: cfg.Keepalive, ConnectTimeout: cfg.ConnectTimeout, MaxReconnect: cfg.MaxReconnect, Queue: cfg.Queue}
		case *camera.Config:
			cfg.User, cfg.Password, cfg.PasswordFile, cfg.PasswordEnv, cfg.CAFile = "", "", "", "", ""
			for _, d := range c.Devices {
				if d.Camera.RTSP != "" {
					d.Camera.RTSP = "rtsp://" + at + "/" + d.ID
				}
				if d.Camera.Snapshot != "" {
					d.Camera.Snapshot = "http://" + at + "/" + d.ID
				}
			}
		default:
			return fmt.Errorf("connection %s: there is no simulation of %s", c.ID, c.Source.Kind())
		}
	}
	p.Config.DataDir = simulationFolder(p.Config.DataDir)
	p.Config.Clock.Trust = "always" // no reading of these is worth waiting for its true time
	p.Simulated = true
	return nil
}
